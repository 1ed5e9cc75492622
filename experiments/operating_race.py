"""Race simulated arms and print how often the true best is kept, by shape of noise and procedure.

``python experiments/operating_race.py [--races 200] [--arms 8 32]`` prints two Markdown tables: the
harness's own procedure with its intervals, and beside it other tests on the same simulated values.

A race has cells for ten blocks of all its arms. A quarter of the arms lies within the margin of the
best, half of them within five margins, a quarter far below; the noise of one training has about the
margin's size. Intervals are those of means, differences and shares that trained. Saved: the share
of cells that the same blocks of all arms would have cost beyond.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.race import fresh
from harness.race.procedure import ALPHA, FIRST, Race
from harness.race.statistic import Interval, spent

MARGIN = 1.0
BLOCKS = 10  # of all arms, that the cells of a race would be enough for
UNTRAINED = -60.0
SHAPES = (
    *("normal", "t3", "left skew", "right skew", "bimodal", "unequal variances"),
    *("block effects", "some diverge", "hidden divergence"),
)


@dataclass(frozen=True)
class Arms:
    """Simulated arms: ``draw`` returns a block's values; means are the true ones."""

    shape: str
    means_K: np.ndarray
    sd_K: np.ndarray
    diverge_K: np.ndarray
    rng: np.random.Generator

    @classmethod
    def make(cls, shape: str, count: int, rng: np.random.Generator) -> Arms:
        """Draw arms of which the first is the best one, unless they diverge."""
        quarter = count // 4
        near = rng.uniform(0, 1, max(0, quarter - 1))
        gaps = [[0.0], near, rng.uniform(0, 5, count - 2 * quarter), rng.uniform(5, 40, quarter)]
        means_K = -np.concatenate(gaps)[:count]
        diverges = "diverge" in shape
        share_K = rng.uniform(0.02, 0.2, count) * (rng.random(count) < 0.5) * diverges
        wide = np.exp(rng.uniform(np.log(0.3), np.log(3), count))
        sd_K = wide if shape == "unequal variances" else np.ones(count)
        if shape == "some diverge":  # it costs them their rank
            means_K = (1 - share_K) * means_K + share_K * UNTRAINED
        return cls(shape, means_K, sd_K, share_K, rng)

    @property
    def trained(self) -> np.ndarray:
        """The true means of the seeds that train, by arm."""
        return (self.means_K - self.diverge_K * UNTRAINED) / (1 - self.diverge_K)

    def draw(self) -> np.ndarray:
        """Return one block: a value of each arm, nan where it diverges."""
        rng, count = self.rng, len(self.means_K)
        noise = rng.standard_normal(count)
        if self.shape == "t3":
            noise = rng.standard_t(3, count) / np.sqrt(3)
        elif self.shape == "left skew":
            noise = 1 - rng.exponential(1, count)
        elif self.shape == "right skew":
            noise = rng.exponential(1, count) - 1
        elif self.shape == "bimodal":
            noise = 0.5 * noise + 0.4 - 4 * (rng.random(count) < 0.1)
        elif self.shape == "block effects":
            noise = noise + 3 * rng.standard_normal()
        diverged = rng.random(count) < self.diverge_K
        return np.where(diverged, np.nan, self.trained + self.sd_K * noise)

    def block(self) -> np.ndarray:
        """Return one block of a race, in which what diverges counts as untrained."""
        return np.nan_to_num(self.draw(), nan=UNTRAINED)


@dataclass
class Tally:
    """Counts over races."""

    kept: int = 0
    near: int = 0
    left: int = 0
    saved: float = 0.0
    covered: int = 0
    intervals: int = 0

    def ended(self, left: list[int], truth_K: np.ndarray, margin: float) -> None:
        """Count a race that ended with the arms that are left; truth_K: larger is better."""
        self.kept += int(truth_K.argmax()) in left
        self.near += bool((truth_K[left] >= truth_K.max() - margin).any())
        self.left += len(left)

    def reported(self, known: list[tuple[Interval, float]]) -> None:
        """Count intervals, each with the true value that it should hold."""
        self.covered += sum(interval.low <= true <= interval.high for interval, true in known)
        self.intervals += len(known)


def own_race(arms: Arms, tally: Tally) -> None:
    """Run the harness's race and its report by fresh seeds."""
    count = len(arms.means_K)
    race = Race([str(number) for number in range(count)], MARGIN)
    cells = 0
    while not race.settled and enough(count, cells, len(race.left)):
        cells += len(race.left)
        race.add({str(number): value for number, value in enumerate(arms.block())})
    left = [int(arm) for arm in race.left]
    tally.ended(left, arms.means_K, MARGIN)
    tally.saved += 1 - cells / (race.blocks * count)
    best = sorted(left, key=lambda arm: -race.standings[str(arm)].value)[: fresh.FINALISTS]
    together = sorted({*best, count // 2})  # the topic's own recipe is one of no merit
    seeds = (BLOCKS * count - cells) // len(together)
    values_SK = np.array([arms.draw()[together] for _ in range(min(fresh.MOST, seeds))])
    by_arm = {str(arm): values_SK[:, index] for index, arm in enumerate(together)}
    for arm, report in fresh.reports(by_arm, race.leader).items():
        truth = arms.trained[int(arm)]
        apart = arms.trained[int(race.leader)] - truth
        known = [(report.mean, truth)]
        known += [(report.trained, 1 - arms.diverge_K[int(arm)])] if arms.diverge_K.any() else []
        known += [(report.behind, apart)] if arm != race.leader else []
        tally.reported(known)


def own_races(shape: str, count: int, races: int) -> Tally:
    """Run so many of the harness's races with arms of a shape of noise, and count."""
    tally, rng = Tally(), np.random.default_rng(0)
    for _ in range(races):
        own_race(Arms.make(shape, count, rng), tally)
    return tally


def enough(count: int, cells: int, left: int) -> bool:
    """Return whether another block can be paid for, with the fresh seeds after it."""
    return cells + left + fresh.trainings(left) <= BLOCKS * count


def worse_by_t(values_BK: np.ndarray, leader: int, level: float) -> np.ndarray:
    """Student's t on pairs."""
    differences_BK = values_BK[:, [leader]] - values_BK
    return stats.ttest_1samp(differences_BK, 0, alternative="greater").pvalue < level


def worse_by_wilcoxon(values_BK: np.ndarray, leader: int, level: float) -> np.ndarray:
    """Wilcoxon's signed ranks on pairs, as Optuna's pruner has it."""
    differences_BK = values_BK[:, [leader]] - values_BK
    return np.array(
        [
            bool(own.any()) and stats.wilcoxon(own, alternative="greater").pvalue < level
            for own in differences_BK.T
        ]
    )


def worse_by_friedman(values_BK: np.ndarray, _: int, level: float) -> np.ndarray:
    """F-race: Friedman's test, then Conover's comparison with the arm of the best ranks."""
    blocks, arms = values_BK.shape
    ranks_BK = stats.rankdata(-values_BK, axis=1)
    sums_K = ranks_BK.sum(axis=0)
    spread = (ranks_BK**2).sum() - blocks * arms * (arms + 1) ** 2 / 4
    statistic = (arms - 1) * ((sums_K - blocks * (arms + 1) / 2) ** 2).sum() / spread
    if stats.chi2.sf(statistic, arms - 1) >= level:
        return np.zeros(arms, dtype=bool)
    df = (blocks - 1) * (arms - 1)
    apart = 2 * blocks * (1 - statistic / (blocks * (arms - 1))) * spread / df
    return sums_K - sums_K.min() > stats.t.isf(level / 2, df) * np.sqrt(apart)


def worse_by_mixture(values_BK: np.ndarray, leader: int, level: float) -> np.ndarray:
    """An asymptotic confidence sequence: Robbins' normal mixture with the sample's variance."""
    differences_BK = values_BK[:, [leader]] - values_BK
    blocks, tuned = len(values_BK), 10  # blocks at which it is narrowest
    rho2 = (-2 * np.log(2 * level) + np.log(-2 * np.log(2 * level) + 1)) / tuned
    wide = 2 * (blocks * rho2 + 1) / (blocks**2 * rho2)
    half_K = differences_BK.std(axis=0, ddof=1) * np.sqrt(
        wide * np.log(np.sqrt(blocks * rho2 + 1) / (2 * level))
    )
    return differences_BK.mean(axis=0) > half_K


def worse_by_bernstein(values_BK: np.ndarray, leader: int, level: float) -> np.ndarray:
    """Maurer and Pontil's empirical Bernstein bound: values between untrained and the best."""
    differences_BK = values_BK[:, [leader]] - values_BK
    blocks, width = len(values_BK), -2 * UNTRAINED
    log = np.log(2 / level)
    half_K = np.sqrt(2 * differences_BK.var(axis=0, ddof=1) * log / blocks)
    return differences_BK.mean(axis=0) > half_K + 7 * width * log / (3 * (blocks - 1))


Test = Callable[[np.ndarray, int, float], np.ndarray]
# name: test, whether over arms (Bonferroni), whether over looks
OTHERS: dict[str, tuple[Test, bool, bool]] = {
    "t, over arms and looks": (worse_by_t, True, True),
    "t, over looks": (worse_by_t, False, True),
    "t at 5 % each look": (worse_by_t, False, False),
    "F-race at 5 % each look": (worse_by_friedman, False, False),
    "Wilcoxon, over looks": (worse_by_wilcoxon, False, True),
    "normal mixture, over arms": (worse_by_mixture, True, False),
    "empirical Bernstein, over arms and looks": (worse_by_bernstein, True, True),
}


def other_race(arms: Arms, tally: Tally, test: Test, over_arms: bool, over_looks: bool) -> None:
    """Run a race by another test; it ends when its cells do or one arm is left."""
    count = len(arms.means_K)
    left, cells = list(range(count)), 0
    values: list[np.ndarray] = []
    while len(left) > 1 and enough(count, cells, len(left)):
        values.append(arms.block())
        cells += len(left)
        if len(values) < FIRST:
            continue
        level = spent(len(values), FIRST, ALPHA) if over_looks else ALPHA
        level /= count - 1 if over_arms else 1
        values_BK = np.array(values)[:, left]
        leader = int(values_BK.mean(axis=0).argmax())
        worse_K = test(values_BK, leader, level)
        left = [arm for arm, worse in zip(left, worse_K, strict=True) if not worse]
    tally.ended(left, arms.means_K, MARGIN)
    tally.saved += 1 - cells / (len(values) * count)


def tables(races: int, counts: list[int]) -> Iterator[str]:
    """Yield the lines of both tables."""
    yield "| arms | noise | true best kept | one within the margin kept | intervals cover | saved |"
    yield "|---|---|---|---|---|---|"
    for count in counts:
        for shape in SHAPES:
            tally = own_races(shape, count, races)
            share = (tally.kept, tally.near, tally.saved)
            kept, near, saved = (f"{100 * number / races:.1f} %" for number in share)
            covered = f"{100 * tally.covered / tally.intervals:.1f} %"
            yield f"| {count} | {shape} | {kept} | {near} | {covered} | {saved} |"
    yield ""
    yield f"| {max(counts)} arms, true best kept / saved | {' | '.join(SHAPES)} |"
    yield "|---" * (len(SHAPES) + 1) + "|"
    for name, (test, *over) in OTHERS.items():
        cells = []
        for shape in SHAPES:
            tally, rng = Tally(), np.random.default_rng(0)
            for _ in range(races):
                other_race(Arms.make(shape, max(counts), rng), tally, test, *over)
            cells.append(f"{100 * tally.kept / races:.0f} / {100 * tally.saved / races:.0f} %")
        yield f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--races", type=int, default=200)
    parser.add_argument("--arms", type=int, nargs="+", default=[8, 32])
    chosen = parser.parse_args()
    for line in tables(chosen.races, chosen.arms):
        print(line, flush=True)


if __name__ == "__main__":
    main()
