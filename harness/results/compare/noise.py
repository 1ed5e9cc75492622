"""How much seeds scatter: variances of small groups, each helped by all the others.

A variance of two or three seeds is worth little, and one variance for all configurations is wrong
where some are wilder than others. Smyth (2004) takes a group's variance as drawn around a prior,
with as many prior degrees of freedom as the groups' own variances speak for, and shrinks it there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

LEAST = 1e-5  # of the median variance: less is a tie of rounded values, not certainty


TRUST = 0.5  # of the prior's degrees of freedom: configurations are not all drawn around one


class Noise(NamedTuple):
    """Variances of groups, shrunk towards their prior, and their degrees of freedom then."""

    variances: np.ndarray
    df: np.ndarray


def moderated(variances_G: np.ndarray, df_G: np.ndarray) -> Noise:
    """Raise the variances of groups with ``df_G`` degrees of freedom each towards their prior.

    None becomes smaller than it is, and the prior counts half: where a few groups are wilder than
    the rest, of two seeds each, full trust makes twice as many false alarms as are allowed. Where
    all variances are 0 they stay so.
    """
    middle = np.median(variances_G)
    floor = LEAST * (middle if middle > 0 else variances_G.max(initial=0.0))
    if len(variances_G) < 2 or floor == 0:
        return Noise(variances_G.copy(), df_G.astype(float))
    raised_G = np.maximum(variances_G, floor)
    prior_variance, prior_df = prior(raised_G, df_G)
    prior_df = TRUST * min(prior_df, float(df_G.sum()))
    whole_G = df_G + prior_df
    shrunk_G = (df_G * raised_G + prior_df * prior_variance) / whole_G
    return Noise(np.maximum(shrunk_G, raised_G), whole_G)


def prior(variances_G: np.ndarray, df_G: np.ndarray) -> tuple[float, float]:
    """Return the prior's variance and degrees of freedom, from the logarithms of variances.

    inf degrees: the variances scatter no more than equal ones would.
    """
    half_G = df_G / 2
    log_G = np.log(variances_G) - digamma(half_G) + np.log(half_G)
    spread = log_G.var(ddof=1) - polygamma(1, half_G).mean()
    if spread <= 0:
        return float(np.exp(log_G.mean())), math.inf
    half = brentq(lambda x: math.log(polygamma(1, math.exp(x)) / spread), -20, 20)
    half = math.exp(half)
    return float(np.exp(log_G.mean() + digamma(half) - math.log(half))), 2 * half
