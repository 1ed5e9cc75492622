"""Tell a difference from chance: many tests at once, and variances of few values each."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import digamma, polygamma

HALVES = (1e-9, 1e9)  # half of a prior's degrees of freedom, between which it is looked for


def holm(p: np.ndarray) -> np.ndarray:
    """Return p values corrected for their number by Holm's step-down method; NaN stays NaN."""
    found = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    found[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return found


def prior(variances_G: np.ndarray, df_G: np.ndarray) -> tuple[float, float]:
    """Return the variance that groups' variances are drawn around, and its degrees of freedom.

    A variance of two or three seeds is worth little, and one variance for all groups is wrong where
    some are wilder than others. Smyth (2004) takes the groups' variances, of ``df_G`` degrees of
    freedom each, as drawn around a prior, and finds its degrees of freedom by how much their
    logarithms scatter. inf: no more than equal ones would. All must be above 0, two or more.
    """
    half_G = df_G / 2
    log_G = np.log(variances_G) - digamma(half_G) + np.log(half_G)
    spread = log_G.var(ddof=1) - polygamma(1, half_G).mean()
    least, most = HALVES
    if spread <= polygamma(1, most):
        return float(np.exp(log_G.mean())), math.inf
    if spread >= polygamma(1, least):
        half = least
    else:
        from scipy.optimize import brentq  # late: it takes a fifth of a second

        inside = (math.log(least), math.log(most))
        half = math.exp(brentq(lambda x: math.log(polygamma(1, math.exp(x)) / spread), *inside))
    return float(np.exp(log_G.mean() + digamma(half) - math.log(half))), 2 * half
