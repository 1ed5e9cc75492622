"""Corrections for many tests, and priors of variances, at their edges."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import polygamma

from harness.results.chance import holm, prior


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_against_its_definition(p):
    """A hypothesis falls if it and all with smaller p fall at 5 % over those that are left."""
    corrected = holm(np.array(p))
    order, falls = np.argsort(p, kind="stable"), True
    for tested, index in enumerate(order):
        falls &= p[index] * (len(p) - tested) <= 0.05
        assert (corrected[index] <= 0.05) == falls


def spread(excess, count=4, df=4.0):
    """Variances whose logarithms scatter by so much more than equal ones would."""
    wanted = excess + polygamma(1, df / 2)
    signs = np.resize([1.0, -1.0], count)
    return np.exp(signs * math.sqrt(wanted * (count - 1) / count)), np.full(count, df)


@pytest.mark.parametrize("excess", [-0.1, 0.0, 1e-13, 1e-10, 1e-8, 1e-3, 1.0, 1e3])
def test_a_prior_is_found_however_alike_or_wild_the_variances_are(excess):
    variance, df = prior(*spread(excess))
    assert math.isfinite(variance) and variance > 0 and df > 0
    if excess >= 1e-3:
        assert polygamma(1, df / 2) == pytest.approx(excess, rel=1e-6)
    if excess <= 0:
        assert math.isinf(df)
