"""Judge speed by what was timed alone on the machine, in units of the work timed in turn with it.

Cells are trained beside other cells, so that their own times say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from harness.results.compare.rows import Row
from harness.results.verdict import Verdict

TOLERANCE = 0.05  # relative; one build on one machine moves 5 % (TorchBench PR 363)
BETWEEN = 0.05  # sd of log ratios between processes: 0.024 (gan), 0.034 (vgg), 0.067 (regression)


def rows(
    baseline: pd.DataFrame | None, candidate: pd.DataFrame | None, same_machine: bool, level: float
) -> Iterator[Row]:
    """Yield a row for each model that both runs have timed, or one that says why there is none.

    They are ``speed.csv`` of both, None where a run has none. Steps are worse where the whole
    interval of their ratio, at ``level``, is over 5 % off. Figures are steps in yardsticks.
    """
    if baseline is None or candidate is None:
        yield _none("not timed alone on the machine by both: not judged")
        return
    if not same_machine:
        yield _none("other machine: not compared")
        return
    here, there = (dict(iter(own.groupby(["topic", "model"]))) for own in (baseline, candidate))
    for (topic, model), own in sorted(here.items()):
        if (topic, model) in there:
            yield _row(str(topic), str(model), own, there[topic, model], level)


def _row(topic: str, model: str, a: pd.DataFrame, b: pd.DataFrame, level: float) -> Row:
    """Return the row of a model's steps: the ratio of both runs' means of log ratios.

    Its error has the scatter of rounds in it, and that of processes of one code, BETWEEN.
    """
    log_a, log_b = (np.log(own["step_ms"] / own["yardstick_ms"]) for own in (a, b))
    squared = stats.sem(log_a) ** 2 + stats.sem(log_b) ** 2 + 2 * BETWEEN**2
    half = stats.norm.ppf(1 - level / 2) * math.sqrt(squared)
    middle = log_b.mean() - log_a.mean()
    low, high = math.exp(middle - half), math.exp(middle + half)
    figures = math.exp(log_a.mean()), math.exp(log_b.mean())
    note = f"{model}: x{figures[1] / figures[0]:.3f} ({low:.3f} to {high:.3f}) the time of a step"
    if low > 1 + TOLERANCE:
        return Row(topic, "speed", *figures, Verdict.WORSE, note)
    if high < 1 / (1 + TOLERANCE):
        return Row(topic, "speed", *figures, Verdict.BETTER, note)
    if low <= 1 <= high:
        return Row(topic, "speed", *figures, Verdict.SAME, f"{note}: no difference is seen")
    return Row(topic, "speed", *figures, Verdict.NOT_ENOUGH, note)


def _none(why: str) -> Row:
    return Row("all", "speed", math.nan, math.nan, Verdict.SAME, why)
