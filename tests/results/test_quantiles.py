"""Quantiles and tails are those of ``scipy.stats``, at the edges too."""

import numpy as np
import pytest
from scipy import stats

from harness.results import quantiles

DF = [np.nan, 1, 2, 3.7, 30, 1e6, np.inf]


@pytest.mark.parametrize("df", DF)
@pytest.mark.parametrize("p", [0.025, 0.5, 0.975, 0.999999])
def test_students_quantiles(p, df):
    found = quantiles.t_quantile(p, df)
    np.testing.assert_allclose(found, stats.t.ppf(p, df), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("df", DF)
@pytest.mark.parametrize("value", [-np.inf, -3.0, 0.0, 0.5, 12.0, np.inf, np.nan])
def test_students_tails(value, df):
    np.testing.assert_allclose(quantiles.t_tail(value, df), stats.t.sf(value, df), rtol=1e-9)


def test_of_arrays():
    found = quantiles.t_quantile(0.975, np.array([0, 1, 4]))
    np.testing.assert_allclose(found, stats.t.ppf(0.975, [0, 1, 4]), rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.3, 2.0, 1e3])
@pytest.mark.parametrize(("between", "within"), [(1, 1), (3, 7), (20, 2)])
def test_tails_of_f(value, between, within):
    found = quantiles.f_tail(value, between, within)
    assert found == pytest.approx(stats.f.sf(value, between, within), rel=1e-9)


@pytest.mark.parametrize("p", [0.025, 0.975])
@pytest.mark.parametrize(("a", "b"), [(1, 5), (2.5, 2.5), (7, 1)])
def test_quantiles_of_beta(p, a, b):
    assert quantiles.beta_quantile(p, a, b) == pytest.approx(stats.beta.ppf(p, a, b), rel=1e-9)


def test_the_normal_distributions():
    assert pytest.approx(stats.norm.ppf(0.975), rel=1e-12) == quantiles.NORMAL
