"""Moderated variances, spending of error over looks, and intervals agree with known values."""

import numpy as np
import pytest
from scipy import stats

from harness.race import fresh
from harness.race.statistic import behind, mean_interval, moderated, spent, trained_share


def test_all_looks_together_spend_alpha():
    assert spent(2, 3, 0.05) == 0
    total = sum(spent(block, 3, 0.05) for block in range(1, 100_000))
    assert total == pytest.approx(0.05, rel=1e-4) and total < 0.05


def test_variances_that_are_alike_borrow_from_each_other():
    """Of 400 samples of one variance the prior's degrees of freedom are many, and it is found."""
    rng = np.random.default_rng(0)
    variances = 4.0 * rng.chisquare(3, 400) / 3
    shrunk, df = moderated(variances, 3)
    assert df > 50
    assert shrunk.std() < 0.2 * variances.std()
    assert shrunk.mean() == pytest.approx(4.0, rel=0.1)


def test_a_prior_that_made_the_variances_is_found_again():
    """Variances drawn as Smyth's model says: the prior 2.0 with 8 degrees of freedom."""
    rng = np.random.default_rng(1)
    true = 2.0 * 8 / rng.chisquare(8, 4000)
    drawn = true * rng.chisquare(5, 4000) / 5
    shrunk, df = moderated(drawn, 5)
    assert df == pytest.approx(8 + 5, rel=0.15)
    assert np.abs(np.log(shrunk / true)).mean() < 0.75 * np.abs(np.log(drawn / true)).mean()


def test_variances_that_differ_widely_or_are_few_stay():
    variances = 10.0 ** np.arange(-9, 10, 1.0)
    shrunk, df = moderated(variances, 4)
    assert df < 4.5 and np.allclose(shrunk[-3:], variances[-3:], rtol=0.2)
    assert moderated(np.array([1.0, 2.0]), 4)[1] == 4
    assert moderated(np.array([0.0, 0.0, 0.0, 1.0]), 4)[1] == 4


def test_two_arms_are_judged_by_students_t_on_pairs():
    rng = np.random.default_rng(2)
    values = rng.normal([0.5, 0.0], size=(7, 2))
    found = behind(values, 0, 0.025)[1]
    pair = stats.ttest_rel(values[:, 0], values[:, 1]).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((pair.low, pair.high))
    assert behind(values, 0, 0.025)[0] == type(found)(0.0, 0.0, 0.0)


def test_intervals_of_means_and_shares():
    values = np.array([1.0, 2.0, 4.0])
    found = mean_interval(values)
    known = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(known)
    assert mean_interval(np.array([3.0])).high == np.inf
    assert np.isnan(mean_interval(np.array([])).mean)
    share = trained_share(10, 10)
    assert share.mean == share.high == 1 and share.low == pytest.approx(0.025 ** (1 / 10))


def test_fresh_seeds_report_what_trained_and_how_many_did():
    nan = float("nan")
    found = fresh.reports({"a": [3.0, 5.0, 4.0], "b": [1.0, nan, 2.5], "c": [nan] * 3}, "a")
    assert found["a"].mean.mean == 4 and found["a"].behind.high == 0
    assert found["b"].mean.mean == 1.75 and found["b"].trained.mean == pytest.approx(2 / 3)
    assert found["b"].behind.mean == pytest.approx((2.0 + 1.5) / 2)
    assert np.isnan(found["c"].mean.mean) and found["c"].trained.mean == 0
