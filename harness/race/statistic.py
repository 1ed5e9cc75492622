"""The statistics of a race: pairs of values with moderated variances, and intervals of means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.results.chance import prior

FEWEST = 3  # variances from which a common one is estimated
UNLIKE, ALIKE = 2e-3, 2e6  # a prior's degrees of freedom: none is borrowed, all is
ROUNDED = 1e-6  # of the largest value: a standard deviation below it is that of rounding


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval: low and high are its ends, in the estimate's own unit."""

    mean: float
    low: float
    high: float


def spent(block: int, first: int, alpha: float) -> float:
    """Return how much of ``alpha`` the look after a block may spend; blocks count from 1.

    It is 0 before ``first``. Over all blocks to come, however many, it sums up to ``alpha``.
    """
    return alpha * (first - 1) / (block * (block - 1)) if block >= first else 0.0


def moderated(variances_K: np.ndarray, df: float) -> tuple[np.ndarray, float]:
    """Shrink K variances of ``df`` degrees of freedom each towards what they have in common.

    Returns the variances and their degrees of freedom: Smyth's moderated t (2004), known from
    limma. A scaled F distribution is fitted to the variances; the more alike they are, the more
    each borrows from the others. Of fewer than FEWEST that are not 0 nothing is borrowed.
    """
    positive = variances_K[variances_K > 0]
    if len(positive) < FEWEST:
        return variances_K, df
    common, prior_df = prior(positive, np.full(len(positive), df))
    if prior_df <= UNLIKE:
        return variances_K, df
    prior_df = min(prior_df, ALIKE)
    shrunk_K = (prior_df * common + df * variances_K) / (prior_df + df)
    return shrunk_K, min(prior_df + df, df * len(positive))


def behind(values_BK: np.ndarray, leader: int, alpha: float) -> list[Interval]:
    """Return by how much each arm is behind the leader: the mean over blocks of paired differences.

    values_BK: larger is better, two blocks or more; alpha: the chance that a bound is wrong, for
    each of its two sides and each arm. With 0 nothing is excluded.

    A difference that was the same in every block does not tell how much it varies: two arms at a
    metric's ceiling differ as soon as one of them misses it. It is taken to vary no less than that
    of any two of all values would; where these are all equal, nothing is excluded.
    """
    blocks = len(values_BK)
    differences_BK = values_BK[:, [leader]] - values_BK
    others = np.arange(values_BK.shape[1]) != leader
    variances_K = differences_BK.var(axis=0, ddof=1)
    rounding = (ROUNDED * np.abs(values_BK).max()) ** 2
    same_K = variances_K <= rounding
    variances_K[same_K] = 0
    variances_K[others], df = moderated(variances_K[others], blocks - 1)
    spread = 2 * values_BK.var()
    variances_K[same_K] = np.maximum(variances_K[same_K], spread if spread > rounding else np.inf)
    half_K = np.where(others, stats.t.isf(alpha, df) * np.sqrt(variances_K / blocks), 0.0)
    means_K = differences_BK.mean(axis=0)
    bounds = zip(means_K, means_K - half_K, means_K + half_K, strict=True)
    return [Interval(*map(float, bound)) for bound in bounds]


def mean_interval(values: np.ndarray, alpha: float = 0.05) -> Interval:
    """Return the mean of a sample, 1-D, with its two-sided Student's t interval of level 1 - alpha.

    One value has no interval: its ends are infinite. Of none the mean is nan.
    """
    mean = float(np.mean(values)) if len(values) else np.nan
    if len(values) < 2:
        return Interval(mean, -np.inf, np.inf)
    half = float(stats.t.isf(alpha / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half)


def trained_share(trained: int, seeds: int, alpha: float = 0.05) -> Interval:
    """Return the share of seeds that trained, with its exact (Clopper-Pearson) interval."""
    found = stats.binomtest(trained, seeds).proportion_ci(1 - alpha, method="exact")
    return Interval(trained / seeds, float(found.low), float(found.high))
