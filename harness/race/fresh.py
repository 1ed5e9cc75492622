"""Report a race's finalists by seeds that were not in it, so that no one's luck is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.race.procedure import ALPHA
from harness.race.statistic import Interval, mean_interval, trained_share

FIRST_SEED = 1000  # of the fresh ones; a race's own count from 0
LEAST, MOST = 5, 10  # fresh seeds that are trained
FINALISTS = 8  # for which time is kept


@dataclass(frozen=True)
class Report:
    """What fresh seeds say of a finalist.

    mean: of the seeds that trained, nan if none did; behind: by how much it is behind the leader,
    over the seeds that trained with both; trained: the share of seeds that did. Each has its
    interval; that of one seed is infinite. The leader itself is behind by 0.
    """

    mean: Interval
    behind: Interval
    trained: Interval


def trainings(left: int) -> int:
    """Return for how many trainings time is kept while so many arms are left in a race.

    LEAST seeds for the topic's own recipe and each of the finalists, FINALISTS at most.
    """
    return LEAST * (min(left, FINALISTS) + 1)


def reports(values: Mapping[str, Sequence[float]], leader: str) -> dict[str, Report]:
    """Return by arm what its values over fresh seeds say; the same seeds for all, larger is better.

    A value is nan if the seed did not train. Differences are taken seed by seed. The intervals of
    means hold together with 95 %, and so do those of differences: Student's t, Bonferroni. Shares
    have exact intervals of 95 % each.
    """
    arrays = {arm: np.asarray(own, dtype=float) for arm, own in values.items()}
    level = ALPHA / max(1, len(arrays) - 1)
    found = {}
    for arm, own in arrays.items():
        behind = Interval(0.0, 0.0, 0.0)
        if arm != leader:
            behind = mean_interval(_trained(arrays[leader] - own), level)
        trained = _trained(own)
        mean = mean_interval(trained, ALPHA / len(arrays))
        found[arm] = Report(mean, behind, trained_share(len(trained), len(own)))
    return found


def _trained(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]
