"""Decide block by block which arms of a race are left, and when it is over.

An arm is a recipe. A block is one value of each arm that is left, all of the same seed, so that
what a seed does to all arms alike falls out of their differences.

After each block the arm of the best mean leads. Another one leaves when its paired difference to
the leader is above zero beyond doubt, and is tied when it is below the margin beyond doubt. Beyond
doubt: by a moderated Student's t, one-sided; its error is held at ``alpha`` over all arms
(Bonferroni) and over all looks at the data, however many blocks there will be (``spent``). So the
best arm leaves in at most ``alpha`` of races.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.race.statistic import Interval, behind, spent

ALPHA = 0.05
FIRST = 3  # blocks before any arm may leave


@dataclass(frozen=True)
class Standing:
    """Where an arm stands after its last block.

    value: the mean of its values; behind: how much it is behind the leader, over the same blocks,
    with an interval that holds together with all others'; blocks: how many it was in. dropped:
    whether it has left the race; tied: whether it is proved to be within the margin.
    """

    value: float
    behind: Interval
    blocks: int
    dropped: bool = False
    tied: bool = False


class Race:
    """A race between arms: takes in one block after the other and knows which arms are left.

    margin: the difference that does not matter, in the values' unit. All it knows follows from the
    blocks it was given, so that a race goes on from stored values by giving it the same again.
    """

    def __init__(
        self, arms: Sequence[str], margin: float, alpha: float = ALPHA, first: int = FIRST
    ) -> None:
        if len(set(arms)) != len(arms) or not arms:
            raise ValueError("arms must be there and differ")
        if first < 2:
            raise ValueError(f"first {first}: two blocks or more have a variance")
        self.arms, self.margin = tuple(arms), margin
        self.alpha, self.first = alpha, first
        self.left = list(arms)
        self.leader = self.left[0]
        self.standings: dict[str, Standing] = {}
        self.withdrawn: list[str] = []
        self._blocks: list[dict[str, float]] = []

    @property
    def blocks(self) -> int:
        """How many blocks there were."""
        return len(self._blocks)

    @property
    def settled(self) -> bool:
        """Whether no arm's fate is open: all that are left are tied with the leader."""
        others = (self.standings.get(arm) for arm in self.left if arm != self.leader)
        return len(self.left) == 1 or all(one is not None and one.tied for one in others)

    def withdraw(self, arms: Sequence[str]) -> None:
        """Take out arms of which there can be no value: they are neither better nor worse.

        The next block's leader is one of those that are left, if any are.
        """
        self.withdrawn += arms
        self.left = [arm for arm in self.left if arm not in arms]

    def add(self, values: Mapping[str, float]) -> list[str]:
        """Take in a block, the values of the arms that are left, and return those that leave.

        Larger is better; values of other arms are not looked at. Raises KeyError for an arm without
        a value and ValueError for one that is not finite.
        """
        block = {arm: float(values[arm]) for arm in self.left}
        if wrong := [arm for arm, value in block.items() if not np.isfinite(value)]:
            raise ValueError(f"the value of {', '.join(wrong)} is not finite")
        self._blocks.append(block)
        values_BK = np.array([[one[arm] for arm in self.left] for one in self._blocks])
        means_K = values_BK.mean(axis=0)
        number = int(means_K.argmax())
        self.leader = self.left[number]
        count = len(self._blocks)
        level = spent(count, self.first, self.alpha) / max(1, len(self.arms) - 1)
        unknown = [Interval(float(m), -np.inf, np.inf) for m in means_K[number] - means_K]
        found = behind(values_BK, number, level) if level else unknown
        leave = []
        for arm, mean, interval in zip(self.left, means_K, found, strict=True):
            tied = arm == self.leader or interval.high <= self.margin
            dropped = interval.low > 0 and not tied
            self.standings[arm] = Standing(float(mean), interval, count, dropped, tied)
            if dropped:
                leave.append(arm)
        self.left = [arm for arm in self.left if arm not in leave]
        return leave
