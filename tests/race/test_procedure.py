"""A race keeps the best arm, lets the worse leave, and ends when the rest are tied."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from harness.race.procedure import ALPHA, FIRST, Race

SCRIPT = Path(__file__).parents[2] / "experiments" / "operating_race.py"
SIMULATED = runpy.run_path(str(SCRIPT))


def raced(means, blocks, margin=0.01, sd=0.001, seed=0):
    """A race of arms a, b, ... of these true means, after so many blocks or when it is settled."""
    rng = np.random.default_rng(seed)
    arms = [chr(ord("a") + number) for number in range(len(means))]
    race = Race(arms, margin)
    for _ in range(blocks):
        shared = rng.normal()
        race.add({a: m + shared + sd * rng.normal() for a, m in zip(arms, means, strict=True)})
        if race.settled:
            break
    return race


def test_what_is_worse_beyond_doubt_leaves_and_the_rest_are_tied():
    race = raced([1.0, 0.999, 0.5, 0.2], 40)
    assert race.left == ["a", "b"] and race.settled and race.leader == "a"
    c = race.standings["c"]
    assert c.dropped and c.behind.low < 0.5 < c.behind.high and c.behind.low > 0
    assert race.standings["b"].tied and race.standings["b"].behind.high <= race.margin


def test_no_arm_leaves_before_the_first_look():
    for blocks in range(1, FIRST):
        race = raced([1.0, 0.0, -1.0, -2.0], blocks)
        assert len(race.left) == 4 and not race.settled
        assert race.standings["b"].behind.high == np.inf
    assert len(raced([1.0, 0.0, -1.0, -2.0], FIRST + 3).left) == 1


def test_what_never_varies_is_told_late_and_nothing_where_all_values_are_equal():
    race, equal = Race(["a", "same", "worse"], margin=0.1), Race(["a", "same"], margin=0.1)
    for count in range(1, 31):
        race.add({"a": 0.9, "same": 0.9, "worse": 0.4})
        equal.add({"a": 0.9, "same": 0.9})
        assert ("worse" in race.left) == (count < 10)
    assert race.left == equal.left == ["a", "same"] and not equal.settled
    assert equal.standings["same"].behind.high == np.inf


def test_the_same_recipe_twice_is_tied_once_two_as_noisy_would_be():
    race = Race(["a", "same"], margin=0.1)
    while not race.settled:
        value = 0.1 * (-1) ** race.blocks
        race.add({"a": value, "same": value})
    assert 20 < race.blocks < 60


@pytest.mark.parametrize("reach", [(0.95, 0.75), (0.9, 0.75), (0.9, 0.8, 0.7)])
def test_arms_that_often_reach_a_ceiling_are_seldom_called_tied(reach):
    """Returns of 500, or else 20 to 300: 34 points or more between arms, the margin 9.8."""
    arms, rng, wrong = "abc"[: len(reach)], np.random.default_rng(0), 0
    for _ in range(200):
        race = Race(arms, margin=9.8)
        while race.blocks < 10 and not race.settled:
            missed = rng.uniform(20, 300, len(arms))
            values = np.where(rng.random(len(arms)) < reach, 500.0, missed)
            race.add(dict(zip(arms, values, strict=True)))
        wrong += sum(race.standings[arm].tied for arm in race.left) > 1
    assert wrong <= 200 * ALPHA


def test_an_arm_that_is_worse_by_less_than_the_margin_stays():
    race = raced([1.0, 0.99], 60, margin=0.05, sd=0.0005)
    assert race.left == ["a", "b"] and race.standings["b"].tied


def test_the_same_blocks_give_the_same_race():
    rng = np.random.default_rng(3)
    blocks = [dict(zip("abcdef", row, strict=True)) for row in rng.normal(size=(12, 6)) + range(6)]
    once, again = Race("abcdef", 0.1), Race("abcdef", 0.1)
    for block in blocks:
        once.add(block)
    for block in blocks:  # values of those that left are not looked at
        again.add(block | dict.fromkeys(set("abcdef") - set(again.left), 1e9))
    assert once.left == again.left and once.standings == again.standings


def test_one_arm_is_settled_and_a_block_must_be_whole():
    assert Race(["a"], 1.0).settled
    race = Race(["a", "b"], 1.0)
    with pytest.raises(KeyError):
        race.add({"a": 1.0})
    with pytest.raises(ValueError, match="b is not finite"):
        race.add({"a": 1.0, "b": float("nan")})
    assert race.blocks == 0
    for arms in ([], ["a", "a"]):
        with pytest.raises(ValueError, match="differ"):
            Race(arms, 1.0)


def test_equal_arms_leave_seldom_whatever_the_number_of_looks():
    """Of ten arms without any difference, in 200 races of 30 blocks."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(200):
        race = Race("abcdefghij", margin=1e-9)
        for row in rng.normal(size=(30, 10)):
            race.add(dict(zip("abcdefghij", row, strict=True)))
        wrong += "a" not in race.left  # any arm is the best one
    assert wrong <= 200 * ALPHA


@pytest.mark.parametrize("shape", [s for s in SIMULATED["SHAPES"] if s != "hidden divergence"])
def test_the_true_best_is_kept_and_intervals_cover(shape):
    tally = SIMULATED["own_races"](shape, 16, 40)
    assert tally.kept >= 0.95 * 40 and tally.near == 40
    assert tally.covered >= 0.93 * tally.intervals
    assert tally.saved >= 0.15 * 40


def test_what_is_withdrawn_is_neither_left_nor_worse_and_others_race_on():
    race = Race(["a", "b", "c"], 0.01)
    race.add({"a": 0.9, "b": 0.8, "c": 0.7})
    race.withdraw(["a"])
    race.add({"b": 0.8, "c": 0.7})
    assert (race.left, race.withdrawn, race.leader) == (["b", "c"], ["a"], "b")
    assert race.standings["b"].behind.mean == 0 and not race.standings["a"].dropped
    race.withdraw(["b", "c"])
    assert race.left == [] and race.settled
