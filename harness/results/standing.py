"""Tell which recipes cannot be told apart from the best one, at 5 % error over all of a topic."""

from __future__ import annotations

import numpy as np

from harness.results.quantiles import NORMAL, t_quantile, t_tail

ERROR = 0.05  # chance that the truly best recipe is called worse


def interval(
    mean: np.ndarray, sd: np.ndarray, count: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % interval of each mean over seeds, on other test samples too.

    Its half-width is that of Student's t over the seeds and that of the test samples' standard
    error (``error``, 0 if it is not known), added in quadrature. NaN for fewer than two seeds.
    """
    known = count > 1
    wide = np.full(len(mean), np.nan)
    seeds = t_quantile(0.975, count[known] - 1) * sd[known] / np.sqrt(count[known])
    wide[known] = np.hypot(seeds, NORMAL * error[known])
    return mean - wide, mean + wide


def standings(
    mean: np.ndarray, sd: np.ndarray, count: np.ndarray, error: np.ndarray, trained: np.ndarray
) -> np.ndarray:
    """Return each recipe's standing in its topic: best, tied, worse, one seed, untrained, only.

    mean: larger is better; sd: over seeds, at least ``error``, the standard error of one seed's
    measurement; count, trained: seeds, and those that trained. The leader has the best mean of
    those with two seeds or more. worse: beaten by it (Welch's t, one-sided, Bonferroni over
    those); tied: cannot be told apart from it; best: the leader, if all others are worse or never
    trained; only: if there are none. one seed: nothing can be told. untrained: no seed trained.
    """
    found = np.full(len(mean), "one seed", dtype=object)
    found[trained == 0] = "untrained"
    able = np.flatnonzero((count > 1) & (trained > 0))
    if not len(able):
        return found
    unit = max(np.abs(mean[able]).max(), 1e-300)
    mean, spread = mean / unit, np.fmax(sd / unit, error / unit)
    leader = able[np.argmax(mean[able])]
    part = np.square(spread) / np.fmax(count, 1)
    ours, theirs = part[leader], part[able]
    both = ours + theirs
    degrees = np.square(ours) / (count[leader] - 1) + np.square(theirs) / (count[able] - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (mean[leader] - mean[able]) / np.sqrt(both)
        p = t_tail(t, np.square(both) / degrees)
    worse = (both > 0) & (p < ERROR / max(1, len(able) - 1))
    found[able] = np.where(worse, "worse", "tied")
    others = np.delete(found, leader)
    if not np.isin(others, ["tied", "one seed"]).any():
        found[leader] = "best" if len(others) else "only"
    return found
