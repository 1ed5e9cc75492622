"""The statistics of a comparison: on equal runs they are seldom wrong, and faults they find."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.results import compare, tables
from harness.results.chance import prior
from harness.results.compare import noise
from harness.results.compare.statistic import Difference, certain, differences

LOSSES = ("ce", "mse", "hinge", "kl", "mae")
SCHEDULES = ("cosine", "constant", "adam")


def recipes(seeds):
    """The cells of 15 recipes."""
    rows = [
        {
            "id": f"vgg/vgg11-{loss}-{schedule}-single-s{seed}",
            **{"topic": "vgg", "model": "vgg11", "loss": loss, "schedule": schedule},
            **{"parallel": "single", "seed": seed, "status": "done", "rate_used": 1.0},
        }
        for loss in LOSSES
        for schedule in SCHEDULES
        for seed in range(seeds)
    ]
    return tables.cells(rows)


def accuracies(cells, generator, heavy=False, sd=0.02):
    """Accuracies of the cells by chance; those under constant scatter more."""
    count = len(cells)
    chance = generator.standard_t(3, count) if heavy else generator.normal(size=count)
    return 0.8 + sd * chance * np.where(cells["schedule"] == "constant", 5, 1)


def alarms(seeds, times, begin=0, fault=lambda cells: 0.0, heavy=False):
    """In what share of comparisons of two runs something is certain."""
    cells, found = recipes(seeds), 0
    for number in range(begin, begin + times):
        generator = np.random.default_rng(number)
        a, b = (accuracies(cells, generator, heavy) for _ in range(2))
        found += bool(certain(differences(cells, (a, b + np.asarray(fault(cells))))).found)
    return found / times


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("heavy", [False, True])
def test_equal_runs_are_called_different_in_5_percent_at_most(seeds, heavy):
    times = 150
    most = stats.binom.ppf(0.999, times, 0.05) / times  # but for one in a thousand
    assert alarms(seeds, times, heavy=heavy) <= most


def test_nor_are_runs_whose_only_seed_moves_all_recipes_of_a_model_alike():
    cells, times, found = recipes(1), 200, 0
    for number in range(times):
        generator = np.random.default_rng(number)
        own, common = generator.normal(size=(2, 15)), generator.normal(size=2)
        a, b = 0.8 + 0.02 * (0.7**0.5 * own + 0.3**0.5 * common[:, None])
        found += bool(certain(differences(cells, (a, b))).found)
    assert found / times <= stats.binom.ppf(0.999, times, 0.05) / times


@pytest.mark.parametrize(
    ("fault", "seeds", "least"),
    [
        (lambda cells: -0.15, 1, 0.5),  # everything: seen without a second seed
        (lambda cells: -0.08, 5, 0.9),
        (lambda cells: -0.2 * (cells["loss"] == "hinge"), 3, 0.9),
        (lambda cells: -0.2 * (cells["schedule"] == "cosine"), 3, 0.9),
        (lambda cells: -0.2 * (cells["schedule"] == "cosine"), 2, 0.4),
    ],
)
def test_planted_faults_are_found(fault, seeds, least):
    assert alarms(seeds, 40, begin=1000, fault=fault) >= least


def test_a_fault_comes_through_to_the_verdict():
    cells = recipes(3).assign(**{"direction.accuracy": "max", "primary": "accuracy"})
    cells = cells.assign(**{"baseline.accuracy": 0.1, "dataset": "d@1"})
    values = accuracies(cells, np.random.default_rng(0))
    before = cells.assign(**{"metric.accuracy": values})
    after = before.assign(**{"metric.accuracy": values - 0.3 * (cells["loss"] == "hinge")})
    found = compare.compare(before, after)
    (row,) = (row for row in found.rows if row.verdict == "worse")
    assert row.aspect == "accuracy" and "-hinge-" in row.note and "-ce-" not in row.note


@pytest.mark.parametrize(
    ("seeds", "shift", "verdict"),
    [(1, -0.03, "same"), (1, -0.05, "worse"), (3, -0.03, "worse"), (1, 0.05, "better")],
)
def test_one_seed_of_each_is_worse_or_better_by_more_than_the_margin_only(seeds, shift, verdict):
    """The margin is 0.035: one seed may move all cells alike by its initial weights."""
    cells = recipes(seeds).assign(**{"direction.accuracy": "max", "primary": "accuracy"})
    cells = cells.assign(**{"baseline.accuracy": 0.1, "dataset": "d@1"})
    generator = np.random.default_rng(0)
    before, after = (
        cells.assign(**{"metric.accuracy": 0.8 + by + 0.001 * generator.normal(size=len(cells))})
        for by in (0, shift)
    )
    assert compare.compare(before, after).verdict == verdict


def test_variances_that_scatter_as_equal_ones_do_are_pooled():
    raw = np.array([1.0, 2.0, 0.5, 4.0])
    equal = noise.moderated(raw, np.full(4, 2))
    variance, df = prior(raw, np.full(4, 2))
    assert math.isinf(df) and (equal.df == 2 + 0.5 * 8).all()
    assert equal.variances == pytest.approx(np.maximum(raw, (2 * raw + 4 * variance) / 6))
    wild = noise.moderated(np.array([1e-4, 1e-4, 1.0, 1.0, 1e4, 1e4]), np.full(6, 4))
    assert (wild.df < 5).all() and (wild.df > 4).all()
    assert (noise.moderated(np.zeros(3), np.full(3, 2)).variances == 0).all()


def test_the_prior_is_found_again():
    generator = np.random.default_rng(0)
    prior_df, prior_variance = 6.0, 2.0
    true = prior_df * prior_variance / generator.chisquare(prior_df, 4000)
    seen = true * generator.chisquare(3, 4000) / 3
    variance, df = prior(seen, np.full(4000, 3.0))
    assert variance == pytest.approx(prior_variance, rel=0.1) and df == pytest.approx(6, rel=0.2)


def test_the_smallest_difference_is_found_as_often_as_it_says():
    one = Difference("a", 0.0, 0.0, error=1.0, df=10)
    shift = one.smallest(0.05)
    generator = np.random.default_rng(1)
    error = np.sqrt(generator.chisquare(10, 20_000) / 10)
    t = (shift + generator.normal(size=20_000)) / error
    assert (np.abs(t) > stats.t.ppf(0.975, 10)).mean() == pytest.approx(0.8, abs=0.02)


def test_within_a_margin_is_what_two_one_sided_tests_say():
    one = Difference("a", 1.0, 1.1, error=0.05, df=8)
    edge = 0.1 + stats.t.ppf(0.95, 8) * 0.05
    assert one.within(edge + 1e-9) and not one.within(edge - 1e-9)


def test_holm_stops_at_the_first_that_may_be_chance():
    some = [Difference(str(t), 0.0, t, 1.0, 1e6) for t in (4.0, 2.5, 2.2, 0.0)]
    sure = certain(some)
    assert {one.name for one in sure.found} == {"4.0", "2.5"} and sure.each == 0.05 / 4
    whole = Difference("", 0.0, 2.3, 1.0, 1e6)
    both = certain([*some, whole])
    assert {one.name for one in both.found} == {"4.0", ""}  # half of 5 % for either kind
    assert (both.level(whole), both.level(some[0])) == (0.025, 0.025 / 4)


def test_what_seeds_do_to_all_alike_is_no_difference():
    """Recipes that share a seed's luck: their mean is as uncertain as few seeds, not many cells."""
    cells, found = recipes(3), 0
    for number in range(200):
        generator = np.random.default_rng(number)
        runs = []
        for _ in range(2):
            luck = dict(zip(cells["seed"].unique(), 0.01 * generator.normal(size=3), strict=True))
            runs.append(accuracies(cells, generator, sd=0.01) + cells["seed"].map(luck))
        found += bool(certain(differences(cells, tuple(map(np.asarray, runs)))).found)
    assert found <= 200 * 0.14  # as independent ones: 20 %


def test_one_configuration_that_changed_has_its_own_seeds_alone_to_tell_by():
    cells = recipes(2)
    other = ((cells["loss"] == "ce") & (cells["schedule"] == "cosine")).to_numpy()
    found = 0
    for number in range(300):
        generator = np.random.default_rng(number)
        a = accuracies(cells, generator)
        b = np.where(other, accuracies(cells, generator), a)
        whole = differences(cells, (a, b))[-1]
        assert whole.name == "" and whole.df < 8
        found += whole.p <= 0.025
    assert found <= stats.binom.ppf(0.999, 300, 0.05)


def test_equal_shifts_of_few_seeds_are_no_certainty():
    cells, generator = recipes(2), np.random.default_rng(0)
    a = accuracies(cells, generator)
    whole = differences(cells, (a, a + 0.001))[-1]
    assert whole.name == "" and whole.p > 0.05


def test_what_a_seed_has_in_both_runs_is_no_noise():
    """Parts of the data that differ in difficulty are the same parts in both."""
    cells, generator = recipes(3), np.random.default_rng(0)
    part = cells["seed"].map({0: 0.0, 1: 0.1, 2: -0.1}).to_numpy(float)
    a, b = (0.5 + part + 0.002 * generator.normal(size=len(cells)) for _ in range(2))
    whole = differences(cells, (a, b - 0.02))[-1]
    assert whole.name == "" and whole.value == pytest.approx(-0.02, abs=0.002)
    assert whole in certain([whole]).found


def test_cells_of_one_seed_that_promise_the_same_training_count_once():
    generator = np.random.default_rng(0)
    cells = recipes(3)
    twin = cells.assign(parallel="ddp", id=cells["id"].str.replace("single", "ddp"))
    twin["parity.exact"] = pd.array([True] * len(twin), dtype="boolean")
    both = pd.concat([cells, twin], ignore_index=True)
    values = np.tile(accuracies(cells, generator), 2)
    moved = values + np.tile(generator.normal(size=len(cells)) * 0.01, 2)
    found = differences(both, (values, moved))
    plain = differences(cells, (values[: len(cells)], moved[: len(cells)]))
    assert [one.error for one in found] == pytest.approx([one.error for one in plain])
    assert not any("ddp" in one.name for one in found)


def unequal(seeds, **shifts):
    """Two runs, of a loss under so many seeds each; some losses are other in the candidate."""
    cells = recipes(3)
    count = cells["loss"].map(seeds).fillna(0)
    cells = cells[(cells["schedule"] == "cosine") & (cells["seed"] < count)]
    cells = cells.assign(**{"direction.accuracy": "max", "baseline.accuracy": 0.1, "dataset": "d"})
    cells = cells.assign(primary="accuracy", **{"metric.accuracy": 0.9 + 0.002 * cells["seed"]})
    moved = cells["metric.accuracy"] + cells["loss"].map(shifts).fillna(1e-4 * cells["seed"])
    return cells, cells.assign(**{"metric.accuracy": moved})


@pytest.mark.parametrize(
    "seeds",
    [{"ce": 2, "kl": 1}, {"ce": 2, "kl": 1, "mse": 1, "mae": 1}, {"ce": 3, "mse": 2, "kl": 1}],
)
def test_one_seed_that_changed_beside_others_of_more_is_named(seeds):
    (row,) = verdicts(*unequal(seeds, kl=-0.7))
    assert row.verdict == "not enough evidence" and "chance: vgg11-kl-cosine -0.7" in row.note
    assert "-ce-" not in row.note and "-mse-" not in row.note
    (row,) = verdicts(*unequal(seeds | {"mse": 2, "mae": 2}, kl=0.0))
    assert row.verdict == "same"


def test_one_seed_that_changed_leaves_no_better_and_hides_no_worse():
    seeds = {"ce": 3, "mse": 3, "kl": 1}
    (row,) = verdicts(*unequal(seeds, kl=-0.7, ce=0.08, mse=0.08))
    assert row.verdict == "not enough evidence" and "; better beyond chance: " in row.note
    worse, few = verdicts(*unequal(seeds, kl=0.05, ce=-0.3))
    assert worse.verdict == "worse" and "vgg11-ce-cosine -0.3" in worse.note
    assert few.verdict == "not enough evidence" and few.note.endswith("vgg11-kl-cosine +0.05")
    (bit,) = verdicts(*unequal(seeds, kl=2.0**-53))
    assert bit.verdict == "not enough evidence"


def verdicts(before, after):
    return [row for row in compare.compare(before, after).rows if row.aspect == "accuracy"]


def test_huge_values_are_judged_without_overflow():
    cells = recipes(3)
    values = np.full(len(cells), 1e308)
    (*_, whole) = differences(cells, (values, -values))
    assert whole.p == 0 and math.isfinite(whole.error)
