"""The rows of a comparison that judge numbers: are they the same, and else, as good?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pandas as pd

from harness.cell import some_of
from harness.results.compare.rows import Row, alike, mean, naming, numbers, texts
from harness.results.compare.statistic import Certain, Difference
from harness.results.verdict import Verdict


def changed(baseline: pd.DataFrame, candidate: pd.DataFrame, metrics: Collection[str]) -> pd.Series:
    """Return which cells have a metric that is not bit for bit the baseline's."""
    found = np.zeros(len(baseline), dtype=bool)
    for name in metrics:
        a_N, b_N = (numbers(run, f"metric.{name}") for run in (baseline, candidate))
        found |= (a_N != b_N) & ~(np.isnan(a_N) & np.isnan(b_N))
    return pd.Series(found, index=baseline.index)


def repeats(
    topic: str, baseline: pd.DataFrame, candidate: pd.DataFrame, metrics: Collection[str]
) -> Row:
    """Return the row of how many cells' numbers are the same: both figures count cells.

    It is worse if they changed where code, data, versions and processor are the same.
    """
    other = changed(baseline, candidate, metrics)
    count = float(len(other)), float((~other).sum())
    broken = [str(cell) for cell in other.index[other & alike(baseline, candidate)]]
    if broken:
        what = "changed though code, data, versions and processor are the same"
        note = naming(f"of {len(other)} cells' numbers {what}", broken)
        return Row(topic, "numbers", *count, Verdict.WORSE, note, tuple(broken))
    if not other.any():
        return Row(topic, "numbers", *count, Verdict.SAME, "bit for bit the same")
    note = f"{other.sum()} of {len(other)} cells' numbers changed{_common(baseline, other)}"
    names = tuple(str(cell) for cell in other.index[other])
    return Row(topic, "numbers", *count, Verdict.SAME, note, names)


def _common(cells: pd.DataFrame, which: pd.Series) -> str:
    """Return which value of an axis the chosen cells have, and no other cell, as text, if any."""
    if which.all():
        return ""
    for axis in ("model", "loss", "schedule", "parallel", "precision", "settings"):
        values = texts(cells, axis)
        own = values[which].unique()
        if len(own) == 1 and not (values[~which] == own[0]).any():
            return f": those of {axis} {own[0]}, and no others"
    return ""


def one_seed(topic: str, values: dict[str, tuple[np.ndarray, np.ndarray]]) -> Row:
    """Return the row of a topic's metrics that changed where no configuration has two seeds."""
    first = next(iter(values.values()))
    moved = ", ".join(f"{name} {mean(a):.4g} -> {mean(b):.4g}" for name, (a, b) in values.items())
    note = f"no configuration has two seeds to tell a change from chance: {moved}"
    return Row(topic, "metrics", mean(first[0]), mean(first[1]), Verdict.NOT_ENOUGH, note)


def metric(
    topic: str,
    name: str,
    higher: bool,
    values: tuple[np.ndarray, np.ndarray],
    found: Sequence[Difference],
    sure: Certain,
    margin: float,
) -> Iterator[Row]:
    """Yield the rows of a metric whose numbers are not all the same.

    values: those of both runs. found: its differences, and sure those of all metrics that are
    beyond chance. margin: within it the runs are as good. Where configurations of one seed changed
    that no mean holds, the best verdict is *not enough evidence*, and they are named.
    """
    means = mean(values[0]), mean(values[1])
    beyond = [one for one in found if one in sure.found and one.relevant(margin)]
    better = [one for one in beyond if (one.value > 0) == higher]
    worse = [one for one in beyond if one not in better]
    alone = [one for one in found if one.alone]
    if worse:
        yield Row(topic, name, *means, Verdict.WORSE, f"beyond chance: {_told(worse)}")
    if alone:
        also = f"; better beyond chance: {_told(better)}" if better else ""
        note = f"one seed in common does not tell a change from chance: {_told(alone)}{also}"
        yield Row(topic, name, *means, Verdict.NOT_ENOUGH, note)
    elif better:
        yield Row(topic, name, *means, Verdict.BETTER, f"beyond chance: {_told(better)}")
    if worse or better:
        return
    whole = found[-1]
    if whole.within(margin):
        if not alone:
            yield Row(topic, name, *means, Verdict.SAME, f"same within {margin:.2g}")
        return
    smallest = max(whole.smallest(sure.level(whole)), margin if whole.one_seed else 0.0)
    note = f"would have been seen: {smallest:.2g} in the mean of all"
    each = sorted(one.smallest(sure.each) for one in found[:-1] if not one.alone)
    if each:
        note += f", {each[len(each) // 2]:.2g} in one configuration"
    yield Row(topic, name, *means, Verdict.NOT_ENOUGH, note)


def _told(some: Sequence[Difference]) -> str:
    """Return differences as text, the most certain or else the largest first, three at most."""
    first = sorted(some, key=lambda one: (one.p, -abs(one.value)))
    return some_of([f"{one.name or 'all together'} {one.value:+.3g}" for one in first], 3)
