"""Probability of improvement: held against SciPy's U, its interval by simulation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm

from harness.results.improvement import improvement, probability

values = st.lists(st.integers(-5, 5), min_size=2, max_size=8).map(lambda v: np.array(v, float))


@given(values, values)
def test_it_is_the_u_statistic_over_the_pairs(one, other):
    found, low, high = probability(one, other, "max")
    assert found == pytest.approx(mannwhitneyu(one, other).statistic / (len(one) * len(other)))
    assert low <= found + 1e-9 and found <= high + 1e-9
    assert probability(one, other, "min")[0] == pytest.approx(1 - found)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_a_few_seeds_never_leave_one_half_out(seeds):
    found, low, high = probability(np.ones(seeds), np.zeros(seeds), "max")
    assert (found, high) == (1.0, 1.0) and low < 0.5


def test_many_seeds_do():
    assert probability(np.ones(6), np.zeros(6), "max")[1] > 0.5


@pytest.mark.parametrize(("one", "other"), [(2, 2), (3, 3), (5, 5), (10, 10), (20, 5)])
@pytest.mark.parametrize(("shift", "sd"), [(0, 1), (1, 1), (1, 5), (2, 0.2)])
def test_the_interval_covers(one, other, shift, sd):
    draw = np.random.default_rng(one * other)
    truth = norm.cdf(shift / np.hypot(1, sd))
    ends = [
        probability(draw.normal(shift, sd, one), draw.normal(size=other), "max")[1:]
        for _ in range(300)
    ]
    assert np.mean([low <= truth <= high for low, high in ends]) >= 0.95


def frame(models):
    rows = [
        {
            **{"topic": "rl", "loss": "huber", "schedule": "cosine", "parallel": "single"},
            **{"model": model, "seed": seed, "status": status, "primary": "return"},
            **{"metric.return": value, "direction.return": "max", "baseline.return": 20.0},
        }
        for model, results in models.items()
        for seed, (status, value) in enumerate(results)
    ]
    return pd.DataFrame(rows)


def test_pairs_of_models_with_seeds_to_compare():
    good, bad = ("done", 500.0), ("done", 100.0)
    models = {"b": [bad, bad], "a": [good, good], "alone": [good]}
    (row,) = improvement(frame(models)).to_dict("records")
    assert (row["model"], row["other"], row["n"], row["n_other"]) == ("a", "b", 2, 2)
    assert (row["probability"], row["high"]) == (1.0, 1.0)


def test_what_diverged_counts_against():
    good, middling, lost = ("done", 500.0), ("done", 100.0), ("diverged", np.nan)
    table = frame({"a": [good, lost, lost, lost], "b": [middling] * 4})
    (row,) = improvement(table).to_dict("records")
    assert (row["n"], row["n_other"], row["probability"]) == (4, 4, 0.25)


def test_two_rates_of_a_model_are_no_seeds_of_each_other():
    table = pd.concat([frame({"a": [("done", v)] * 2, "b": [("done", 1.0)] * 2}) for v in (0, 2)])
    table["rate"] = [1.0] * 4 + [0.3] * 2 + [1.0] * 2
    found = improvement(table).set_index("rate")["probability"]
    assert found.to_dict() == {1.0: 0.0, 0.3: 1.0}


def test_nothing_to_compare_is_an_empty_table():
    assert improvement(frame({"a": [("done", 1.0)]})).empty
