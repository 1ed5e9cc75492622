"""Probability of improvement, held against SciPy's Mann-Whitney U."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from harness.results.improvement import REPLICATES, improvement, probability

values = st.lists(st.integers(-5, 5), min_size=2, max_size=8).map(lambda v: np.array(v, float))


@given(values, values)
def test_it_is_the_u_statistic_over_the_pairs(one, other):
    found, low, high = probability(one, other, "max")
    assert found == pytest.approx(mannwhitneyu(one, other).statistic / (len(one) * len(other)))
    assert low <= found + 1e-9 and found <= high + 1e-9
    assert probability(one, other, "min")[0] == pytest.approx(1 - found)


def bootstrapped(one, other):
    """The interval from all pairs of every resample, as it is defined."""
    draw = np.random.default_rng(0)
    wins = (np.sign(one[:, None] - other) + 1) / 2
    rows, columns = (draw.integers(len(v), size=(REPLICATES, len(v))) for v in (one, other))
    means = [wins[np.ix_(i, j)].mean() for i, j in zip(rows, columns, strict=True)]
    return tuple(np.quantile(means, [0.025, 0.975]))


@pytest.mark.parametrize("ties", [True, False])
def test_its_interval_is_the_bootstraps(ties):
    draw = np.random.default_rng(1)
    one, other = draw.normal(size=17), draw.normal(size=11)
    if ties:
        one, other = np.round(one), np.round(other)
    assert probability(one, other, "max")[1:] == bootstrapped(one, other)


@pytest.mark.parametrize(("seeds", "most_mb"), [(265, 30), (2000, 120)])
def test_many_seeds_take_little_memory(seeds, most_mb):
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=seeds), draw.normal(size=seeds)
    tracemalloc.start()
    found, low, high = probability(one, other, "max")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < most_mb * 1e6
    assert found == pytest.approx(mannwhitneyu(one, other).statistic / seeds**2)
    assert low < found < high


def frame(models):
    rows = [
        {
            **{"topic": "rl", "loss": "huber", "schedule": "cosine", "parallel": "single"},
            **{"model": model, "seed": seed, "status": status, "primary": "return"},
            **{"metric.return": value, "direction.return": "max"},
        }
        for model, results in models.items()
        for seed, (status, value) in enumerate(results)
    ]
    return pd.DataFrame(rows)


def test_pairs_of_models_with_seeds_to_compare():
    good, bad = ("done", 500.0), ("done", 100.0)
    models = {"b": [bad, bad], "a": [good, good, ("diverged", 0.0)], "alone": [good]}
    (row,) = improvement(frame(models)).to_dict("records")
    assert (row["model"], row["other"], row["n"], row["n_other"]) == ("a", "b", 2, 2)
    assert (row["probability"], row["low"], row["high"]) == (1.0, 1.0, 1.0)


def test_nothing_to_compare_is_an_empty_table():
    assert improvement(frame({"a": [("done", 1.0)]})).empty
