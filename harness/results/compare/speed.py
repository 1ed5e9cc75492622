"""Judge speed by steps that several processes of each run have timed, beside yardsticks.

Cells are trained beside other cells, so that their own times say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from harness.results.compare.aspects import TOLERANCE
from harness.results.compare.noise import moderated
from harness.results.compare.rows import Row
from harness.results.compare.statistic import ALPHA, Difference
from harness.results.verdict import Verdict

ENOUGH = 0.10  # a run that would have seen this and saw nothing is as fast
RUN = 0.015  # sd of log times that all processes of a run have in common
UNKNOWN = 0.5  # sd of a share of which nothing is known, at most
TIMES = ["step_ms", "small_ms", "large_ms"]


def rows(
    baseline: pd.DataFrame | None,
    candidate: pd.DataFrame | None,
    elsewhere: Collection[str] = (),
) -> Iterator[Row]:
    """Yield a row for each model that both runs have timed, or one that says why there is none.

    They are ``speed.csv`` of both, None where a run has none. elsewhere: topics that another
    processor or GPU has trained in the candidate. Intervals hold at ALPHA over all
    models together (Bonferroni); figures are steps in units of their yardstick.
    """
    if baseline is None or candidate is None:
        yield _none("not timed alone on the machine by both: not judged")
        return
    left = [own[~own["topic"].isin(elsewhere)] for own in (baseline, candidate)]
    if others := sorted({*baseline["topic"], *candidate["topic"]} & {*elsewhere}):
        yield _none(f"{', '.join(others)}: other machine: not compared")
    baseline, candidate = left
    if baseline.empty or candidate.empty:
        return
    if baseline.equals(candidate):
        yield _none("the same measurements")
        return
    here, there = (_processes(own) for own in (baseline, candidate))
    shared = [model for model in here if model in there]
    enough = [model for model in shared if min(len(here[model]), len(there[model])) > 1]
    if few := [model for model in shared if model not in enough]:
        names = ", ".join("/".join(model) for model in few)
        why = f"{names}: not timed in several processes by both runs, so not judged"
        yield _none(why, Verdict.NOT_ENOUGH)
    if not enough:
        return
    fits = [_Fit.of(here[model], there[model]) for model in enough]
    noise = moderated(np.array([fit.variance for fit in fits]), np.array([fit.df for fit in fits]))
    for (topic, model), fit, variance, df in zip(enough, fits, *noise, strict=True):
        yield _row(topic, model, fit.difference(variance, df), ALPHA / len(enough))


def _processes(timed: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Return by topic and model the logarithms of each process's times in its fastest rounds.

    Others on the machine only slow down.
    """
    times = timed.groupby(["topic", "model", "process"])[TIMES].min()
    logs = times.where((times > 0) & (times < math.inf)).map(math.log)
    groups = logs.groupby(level=[0, 1])
    return {(str(topic), str(model)): own.dropna() for (topic, model), own in groups}


@dataclass(frozen=True)
class _Fit:
    """A model's steps in both runs, held against a mixture of the yardsticks that suits them.

    Load slows small operations more than large ones, and a step consists of both. The share of
    small ones is the slope of steps on yardsticks over the processes of each run: an analysis of
    covariance (Fisher 1932). small, step: both runs' means, of logarithms over the large yardstick.
    scatter: sum of squares of the former over processes. variance and df: of what the mixture
    leaves of a step's logarithm.
    """

    share: float
    counts: tuple[int, int]
    small: tuple[float, float]
    step: tuple[float, float]
    scatter: float
    variance: float
    df: int

    @classmethod
    def of(cls, baseline: pd.DataFrame, candidate: pd.DataFrame) -> _Fit:
        """Fit the share to the processes of both runs."""
        runs = baseline, candidate
        small, step = (
            [(own[name] - own["large_ms"]).to_numpy() for own in runs]
            for name in ("small_ms", "step_ms")
        )
        x_N, y_N = (np.concatenate([own - own.mean() for own in both]) for both in (small, step))
        scatter = float(x_N @ x_N)
        share = float(np.clip(x_N @ y_N / scatter, 0, 1)) if scatter else 0.5
        df = len(x_N) - 3  # two means and the share
        variance = float(((y_N - share * x_N) ** 2).sum() / df)
        means = [(float(a.mean()), float(b.mean())) for a, b in (small, step)]
        counts = len(baseline), len(candidate)
        return cls(share, counts, means[0], means[1], scatter, variance, df)

    def difference(self, variance: float, df: float) -> Difference:
        """Return how the logarithm of a step's time differs, given its variance over processes.

        Its error is that of processes, of runs, and of the share where the yardsticks differ.
        """
        a, b = (y - self.share * x for x, y in zip(self.small, self.step, strict=True))
        unsure = min(variance / self.scatter, UNKNOWN**2) if self.scatter else UNKNOWN**2
        apart = self.small[1] - self.small[0]
        squared = variance * sum(1 / count for count in self.counts) + unsure * apart**2
        total = squared + 2 * RUN**2
        return Difference(
            "", a, b, math.sqrt(total), df * (total / squared) ** 2 if squared else df
        )


def _row(topic: str, model: str, found: Difference, level: float) -> Row:
    """Return the row of a model's steps; what is certain and over TOLERANCE off counts."""
    half = stats.t.ppf(1 - level / 2, found.df) * found.error
    ratio, low, high = (math.exp(found.value + shift) for shift in (0, -half, half))
    figures = math.exp(found.baseline), math.exp(found.candidate)
    note = f"{model}: x{ratio:.3f} ({low:.3f} to {high:.3f}) the time of a step"
    seen = math.exp(found.smallest(level)) - 1
    alike = low <= 1 <= high
    if not alike and ratio > 1 + TOLERANCE:
        return Row(topic, "speed", *figures, Verdict.WORSE, note)
    if not alike and ratio < 1 / (1 + TOLERANCE):
        return Row(topic, "speed", *figures, Verdict.BETTER, note)
    if found.within(math.log(1 + TOLERANCE)):
        return Row(topic, "speed", *figures, Verdict.SAME, f"{note}: same within {TOLERANCE:.0%}")
    note += f": would have been seen: {seen:.0%}"
    verdict = Verdict.SAME if alike and seen <= ENOUGH else Verdict.NOT_ENOUGH
    return Row(topic, "speed", *figures, verdict, note)


def _none(why: str, verdict: Verdict = Verdict.SAME) -> Row:
    return Row("all", "speed", math.nan, math.nan, verdict, why)
