"""Which rates a search tries, and which one next."""

import math
import statistics

from hypothesis import given
from hypothesis import strategies as st

from harness.cell import Cell
from harness.rates import table
from harness.studies.ladder import GRID, LADDER, Trial, beyond, confirming, outside, ranked, scatter

MSE = Cell("toy", "line", "mse", "constant")


def trials(values, share=1):
    """Trials of one recipe by their rates and values."""
    key = table.recipe(MSE)
    nan = math.nan
    return [Trial(key, rate, share, seed, "done", v, nan) for (rate, seed), v in values.items()]


def test_the_best_mean_comes_first_and_what_came_to_nothing_last():
    nan = math.nan
    some = {(0.1, 0): 3.0, (0.1, 1): 1.0, (1.0, 0): 1.0, (1.0, 1): nan, (3.0, 0): 1.5, (3.0, 1): 1}
    assert ranked(trials(some), "max") == [0.1, 3.0, 1.0]
    assert ranked(trials(some), "min") == [3.0, 0.1, 1.0]
    assert ranked(trials({(1.0, 0): nan}), "min") == []


@given(st.lists(st.sampled_from(LADDER), min_size=1, unique=True))
def test_of_equal_rates_the_nearest_to_the_topics_own_wins(rates):
    order = ranked(trials({(rate, 0): 0.5 for rate in rates}), "max")
    distance = [abs(math.log(rate)) for rate in order]
    assert distance == sorted(distance) and set(order) == set(rates)


def test_rates_of_equal_value_are_told_apart_by_the_second_metric():
    by_rate = {0.3: 0.2, 1.0: 0.1, 3.0: 0.5, 10.0: math.nan}
    equal = [Trial(table.recipe(MSE), r, 9, 0, "done", 0.0, s) for r, s in by_rate.items()]
    assert ranked(equal, "max") == ranked(equal, "min") == [3.0, 0.3, 1.0, 10.0]
    assert ranked([*equal, equal[1]._replace(seed=1, value=0.1)], "max")[0] == 1.0


def test_a_best_rate_at_the_end_asks_for_the_next_one_beyond():
    values = {(rate, 0): rate for rate in GRID}
    assert outside(GRID, trials(values), "max") == 30.0
    assert outside(GRID, trials(values), "min") == 0.01
    inside = {(rate, 0): -abs(rate - 1) for rate in GRID}
    assert outside(GRID, trials(inside), "max") is None
    assert outside([1000.0], trials({(1000.0, 0): 1.0}), "max") is None
    assert outside([1.0], trials({(1.0, 0): math.nan}), "max") is None


def test_beyond_the_end_all_seeds_train():
    values = {(rate, seed): rate for rate in GRID for seed in (0, 1)}
    assert beyond(trials(values), "max", [0, 1], math.nan) == [(30.0, 0), (30.0, 1)]
    inside = {(rate, 0): -abs(rate - 1) for rate in GRID}
    assert beyond(trials(inside), "max", [0], math.nan) == []


def test_a_rate_that_ruins_the_next_seed_gives_way_to_one_that_does_not():
    lucky = {(10.0, 0): 1.4, (3.0, 0): 2.1, (1.0, 0): 4.2}
    assert set(confirming(trials(lucky), "min", [0], math.nan)) == {(10.0, 0), (10.0, 1), (10.0, 2)}
    ruined = lucky | {(10.0, 1): 48.0, (10.0, 2): 1.7}
    assert set(confirming(trials(ruined), "min", [0], math.nan)) == {(3.0, 0), (3.0, 1), (3.0, 2)}
    confirmed = ruined | {(3.0, 1): 2.0, (3.0, 2): 2.3}
    assert ranked(trials(confirmed), "min")[0] == 3.0
    assert (
        set(confirming(trials(confirmed), "min", [0], math.nan)) <= confirmed.keys()
    )  # nothing is left


def test_a_rate_behind_by_less_than_seeds_scatter_is_not_judged_by_a_hard_seed_alone():
    hard = {(1.0, 0): 0.950, (10.0, 0): 0.938, (0.1, 0): 0.900}
    easier = {(1.0, 1): 0.970, (1.0, 2): 0.960}
    both = {(rate, seed) for rate in (1.0, 10.0) for seed in range(3)}
    assert set(confirming(trials(hard | easier), "max", [0], 0.013)) == both
    assert {rate for rate, _ in confirming(trials(hard | easier), "max", [0], 0.011)} == {1.0}
    assert {rate for rate, _ in confirming(trials(hard), "max", [0], math.nan)} == {1.0}
    won = hard | easier | {(10.0, 1): 0.985, (10.0, 2): 0.980}
    assert ranked(trials(won), "max")[0] == 10.0
    assert set(confirming(trials(won), "max", [0], 0.013)) == both  # nothing is left


def test_rates_that_tie_are_near_and_what_came_to_nothing_is_not():
    some = {(1.0, seed): 0.9 for seed in range(3)} | {(3.0, 0): 0.9, (10.0, 0): math.nan}
    assert {rate for rate, _ in confirming(trials(some), "max", [0], 0.0)} == {1.0, 3.0}


def test_seeds_scatter_by_the_median_over_recipes_and_rates():
    some = trials({(1.0, 0): 1.0, (1.0, 1): 3.0, (3.0, 0): 2.0, (3.0, 1): 2.0, (0.1, 0): 5.0})
    other = [trial._replace(recipe=("toy", "line", "ce", "cosine"), value=9.0) for trial in some]
    ruined = [other[0], other[1]._replace(value=500.0)]
    assert scatter(some) == statistics.median([statistics.stdev([1.0, 3.0]), 0.0])
    assert scatter([*some, *ruined]) == statistics.stdev([1.0, 3.0])
    assert math.isnan(scatter(some[-1:])) and math.isnan(scatter([]))


def test_a_seed_that_diverges_ruins_a_rate_too():
    some = {(10.0, 0): 1.4, (10.0, 1): math.nan, (10.0, 2): 1.4, (3.0, 0): 2.1}
    assert set(confirming(trials(some), "min", [0], math.nan)) == {(3.0, 0), (3.0, 1), (3.0, 2)}
    assert len(confirming(trials(some), "min", range(5), math.nan)) == 5
    assert confirming([], "min", [0], math.nan) == []
