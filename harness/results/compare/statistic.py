"""Decide whether paired values of two runs differ by more than chance."""

from __future__ import annotations

import numpy as np

from harness.results.verdict import Verdict

RELEVANT = 0.01  # of the baseline's mean: less is no difference, however certain


def judged(baseline_N: np.ndarray, candidate_N: np.ndarray, higher: bool) -> Verdict:
    """Return ``same``, ``better`` or ``worse`` for a metric of N cells, measured in both runs.

    All values are finite; higher: whether larger is better. They differ where the mean difference
    is over twice its standard error and over 1 % of the baseline's mean. A single pair never does.
    """
    if len(baseline_N) < 2:
        return Verdict.SAME
    scale = max(np.abs(baseline_N).max(), np.abs(candidate_N).max()) or 1.0  # so that none is inf
    difference_N = candidate_N / scale - baseline_N / scale
    noise = 2 * difference_N.std(ddof=1) / len(difference_N) ** 0.5
    bound = max(noise, RELEVANT * abs((baseline_N / scale).mean()))
    return beyond(difference_N.mean(), bound, higher)


def beyond(difference: float, bound: float, higher: bool) -> Verdict:
    """Return the verdict for a difference, ``same`` if it is within ``bound``."""
    if abs(difference) <= bound:
        return Verdict.SAME
    return Verdict.BETTER if (difference > 0) == higher else Verdict.WORSE
