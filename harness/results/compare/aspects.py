"""What is compared of a topic's cells, a function each.

``baseline`` and ``candidate`` hold the same cells row by row, by id; a cell that a run lacks has
missing values there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import pandas as pd
from scipy import stats

from harness.cell import Status
from harness.results.compare.rows import Row, alike, flags, mean, naming, numbers, texts
from harness.results.compare.statistic import beyond, configurations, measured
from harness.results.record import TRAINED
from harness.results.verdict import Verdict

TOLERANCE = 0.05  # relative; one build on one machine moves 5 % (TorchBench PR 363)
RESIDENT = 0.25  # of a CPU's processes, whose heaps move runs of equal code by up to 13 %
CHECKS = (
    *("checkpoint.state_equal", "checkpoint.resume_equal", "checkpoint.metrics_equal"),
    "parity.equal",
)
ABSENT = ""
RANK = {Status.DONE: 2, Status.DIVERGED: 1}
RANK |= dict.fromkeys((Status.UNMEASURED, Status.FAILED, Status.TIMEOUT), 0)


def cells(
    topic: str, baseline: pd.DataFrame, candidate: pd.DataFrame, level: float
) -> Iterator[Row]:
    """Yield a row per way in which cells ended otherwise than in the baseline, or one for none.

    Both figures are counts of cells that are ``done``. That cells diverge, or no longer do, is
    better or worse where Fisher's exact test has a p-value of ``level`` at most: it may be chance.
    Cells of one seed that promise to be the same training count once in it.
    """
    before, now = texts(baseline, "status"), texts(candidate, "status")
    done = float((before == Status.DONE).sum()), float((now == Status.DONE).sum())
    changed = False
    for was, became in sorted(set(zip(before, now, strict=True))):
        found = _change(was, became)
        if found is None:
            continue
        changed = True
        verdict, what = found
        which = (before == was) & (now == became)
        chance = {was, became} <= set(TRAINED) and not alike(baseline, candidate)[which].any()
        if chance and _diverging(baseline, before, now) > level:
            verdict, what = Verdict.NOT_ENOUGH, f"{what}: it may be chance"
        names = [str(name) for name in before.index[which]]
        reason = texts(candidate, "reason")[names[0]]
        note = naming(what, names, reason)
        yield Row(topic, "cells", *done, verdict, note, tuple(names))
    if not changed:
        yield Row(topic, "cells", *done, Verdict.SAME)


def _diverging(cells: pd.DataFrame, before: pd.Series, now: pd.Series) -> float:
    """Return Fisher's p-value of equal shares of trainings that diverge, of those in both runs.

    Cells that promise to be the same training are one: it diverged if any of them did.
    """
    trained = before.isin(TRAINED) & now.isin(TRAINED)
    training = [configurations(cells)[trained], texts(cells, "seed")[trained]]
    lost = [(own[trained] == Status.DIVERGED).groupby(training).any() for own in (before, now)]
    counts = np.array([[own.sum(), (~own).sum()] for own in lost])
    return float(stats.fisher_exact(counts).pvalue)


def _change(was: str, became: str) -> tuple[Verdict, str] | None:
    """Return the verdict over a cell's change of status, and its name; None if there is nothing."""
    trained, run = was in TRAINED, became not in (ABSENT, Status.SKIPPED)
    if was in (ABSENT, Status.SKIPPED):
        return (Verdict.SAME, f"new, {became}") if run else None
    if not run:
        what = f"{became or 'absent'}, {was} in the baseline"
        if not trained:
            return Verdict.SAME, what
        return (Verdict.WORSE if became else Verdict.NOT_WHOLE), what
    if was == became:
        return None if trained else (Verdict.SAME, f"{was} in both")
    verdict = beyond(RANK[Status(became)] - RANK[Status(was)], 0, True)
    return verdict, f"{became}, {was} in the baseline"


def gaps(
    topic: str, name: str, higher: bool, baseline: pd.DataFrame, candidate: pd.DataFrame
) -> Iterator[Row]:
    """Yield rows for a metric of cells that are done in both whose values are no finite pair.

    A value that is no longer measured is worse; one that was missing, and is measured, is better
    unless the baseline does not know the metric. An infinite value is in no mean: it is better or
    worse than any other, by the metric's direction.
    """
    known = (texts(baseline, f"direction.{name}") != "").any()
    a_N, b_N = measured(baseline, name), measured(candidate, name)
    finite = np.isfinite(a_N) & np.isfinite(b_N)
    sign = 1 if higher else -1
    endless = ~finite & ~np.isnan(a_N) & ~np.isnan(b_N)
    kinds = (
        (Verdict.WORSE, "no longer measured", ~np.isnan(a_N) & np.isnan(b_N)),
        (
            Verdict.BETTER if known else Verdict.SAME,
            "measured now only",
            np.isnan(a_N) & ~np.isnan(b_N),
        ),
        (Verdict.WORSE, "worse by an infinite value", endless & (sign * b_N < sign * a_N)),
        (Verdict.BETTER, "better by an infinite value", endless & (sign * b_N > sign * a_N)),
        (Verdict.SAME, "infinite in both", endless & (a_N == b_N)),
    )
    for verdict, what, which in kinds:
        if which.any():
            names = [str(cell) for cell in baseline.index[which]]
            means = mean(a_N[which]), mean(b_N[which])
            yield Row(topic, name, *means, verdict, naming(what, names), tuple(names))


def undirected(
    topic: str, directed: Collection[str], baseline: pd.DataFrame, candidate: pd.DataFrame
) -> Iterator[Row]:
    """Yield a row for each metric that has values and that no run gives a direction for."""
    columns = dict.fromkeys([*baseline.columns, *candidate.columns])
    for name in (str(c).removeprefix("metric.") for c in columns if str(c).startswith("metric.")):
        a_N, b_N = (numbers(run, f"metric.{name}") for run in (baseline, candidate))
        if name not in directed and not (np.isnan(a_N) & np.isnan(b_N)).all():
            note = "no direction, max or min: not compared"
            yield Row(topic, name, mean(a_N), mean(b_N), Verdict.SAME, note)


def memory(
    topic: str, baseline: pd.DataFrame, candidate: pd.DataFrame, same_machine: bool, level: float
) -> Row:
    """Return the row of peak memory, over cells done in both, on the same machine only.

    It is better or worse where the median ratio is off by over 5 % on a GPU, whose allocations
    count, or 25 % on a CPU, whose processes' resident memory does, and Wilcoxon's signed ranks have
    a p-value of ``level`` at most. Left out are cells that trained in populations of another
    size, or over more or fewer ranks.
    """
    name = "peak_memory_mb"
    a_N, b_N = numbers(baseline, f"cost.{name}"), numbers(candidate, f"cost.{name}")
    known = np.isfinite(a_N) & np.isfinite(b_N) & (a_N > 0) & (b_N > 0)
    for column in ("population", "world_size"):
        known &= numbers(baseline, column) == numbers(candidate, column)
    a, b = a_N[known], b_N[known]
    if not len(a):
        return Row(topic, name, np.nan, np.nan, Verdict.SAME, "not measured")
    if not same_machine:
        return Row(topic, name, mean(a), mean(b), Verdict.SAME, "other machine: not compared")
    log_ratio = np.log(b / a)
    ratio = float(np.exp(np.median(log_ratio)))
    apart = log_ratio.any() and stats.wilcoxon(log_ratio).pvalue <= level
    on_gpus = (texts(baseline, "environment.device")[known] != "cpu").all()
    tolerance = TOLERANCE if on_gpus else RESIDENT
    verdict = beyond(ratio - 1, tolerance, False) if apart else Verdict.SAME
    return Row(topic, name, mean(a), mean(b), verdict, f"x{ratio:.3f} in {len(a)} cells")


def check(topic: str, name: str, baseline: pd.DataFrame, candidate: pd.DataFrame) -> Iterator[Row]:
    """Yield rows for a check of checkpoints or ``parity.equal``, over cells trained in both.

    Worse: it fails where it did not, or is no longer made where it held. Both figures are the share
    of made checks that hold.
    """
    a, b = flags(baseline, name), flags(candidate, name)
    fails, failed = ~b.fillna(True), ~a.fillna(True)
    kinds = [
        (Verdict.WORSE, "no longer hold", fails & ~failed),
        (Verdict.BETTER, "hold again", failed & b.fillna(False)),
    ]
    alike = texts(baseline, "status") == texts(candidate, "status")  # else that is what changed
    if name == "parity.equal":
        exact, still = flags(baseline, "parity.exact"), flags(candidate, "parity.exact")
        kinds += [
            (Verdict.WORSE, "no longer measured", exact.fillna(False) & still.isna() & alike),
            (Verdict.SAME, "exact now", ~exact.fillna(True) & still.fillna(False)),
            (Verdict.SAME, "exact no longer", exact.fillna(False) & ~still.fillna(True)),
        ]
    else:
        kinds.append((Verdict.WORSE, "no longer audited", a.fillna(False) & b.isna() & alike))
    shares = mean(a.dropna().to_numpy("float64")), mean(b.dropna().to_numpy("float64"))
    changed = False
    for verdict, what, which in kinds:
        if which.any():
            changed = True
            names = [str(cell) for cell in baseline.index[which.to_numpy(bool)]]
            yield Row(topic, name, *shares, verdict, naming(what, names), tuple(names))
    if not changed:
        note = "" if a.notna().any() or b.notna().any() else "not measured"
        yield Row(topic, name, *shares, Verdict.SAME, note)
