"""Compare the cells of two runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.cell import Status
from harness.results.compare import aspects, comparable, quality, speed, statistic, text
from harness.results.compare.rows import Row, mean, texts
from harness.results.compare.statistic import Difference
from harness.results.record import TRAINED
from harness.results.verdict import Verdict

ORDER = (
    *(Verdict.WORSE, Verdict.NOT_WHOLE, Verdict.BETTER),
    *(Verdict.NOT_ENOUGH, Verdict.SAME),
)


@dataclass(frozen=True, repr=False)
class Comparison:
    """The result of comparing a candidate run with a baseline run.

    rows: one or more per topic and aspect, the worst first. missing: the ids of cells that the
    baseline trained and of which the candidate has no record; new: those that only the candidate
    has. refused: why the two are not comparable; then there is nothing else.
    """

    rows: tuple[Row, ...] = ()
    missing: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    refused: str = ""

    def __repr__(self) -> str:
        """Return the comparison as ``python -m harness compare`` prints it."""
        if self.refused:
            return f"verdict: {self.verdict}: {self.refused}"
        return "\n".join(text.lines(self))

    @property
    def verdict(self) -> Verdict:
        """Return the verdict over all rows: the first of ORDER that one of them has."""
        if self.refused:
            return Verdict.NOT_COMPARABLE
        return next((v for v, count in self.counts.items() if count), Verdict.SAME)

    @property
    def exit_code(self) -> int:
        """Return the exit code of the verdict: 0, 1 (worse), 2 (not comparable), 3 (not whole)."""
        return self.verdict.exit_code

    @property
    def counts(self) -> dict[Verdict, int]:
        """Return how many rows have each verdict, in ORDER."""
        found = Counter(row.verdict for row in self.rows)
        return {verdict: found[verdict] for verdict in ORDER}

    @property
    def table(self) -> pd.DataFrame:
        """Return the rows as a DataFrame, one of its columns for each field of a ``Row``."""
        return pd.DataFrame([asdict(row) for row in self.rows])

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as values that JSON has: None for a number that is not finite."""

        def plain(value: Any) -> Any:
            if isinstance(value, tuple):
                return list(value)
            return None if isinstance(value, float) and not math.isfinite(value) else value

        return {
            "verdict": str(self.verdict),
            "exit_code": self.exit_code,
            "refused": self.refused,
            "counts": {str(verdict): count for verdict, count in self.counts.items()},
            "missing": list(self.missing),
            "new": list(self.new),
            "rows": [{name: plain(v) for name, v in asdict(row).items()} for row in self.rows],
        }


def compare(
    baseline: pd.DataFrame,
    candidate: pd.DataFrame,
    speeds: tuple[pd.DataFrame | None, pd.DataFrame | None] = (None, None),
) -> Comparison:
    """Compare a candidate run with a baseline, from their DataFrames of ``tables.cells``.

    Cells are matched by id. One that the baseline trained and that failed or was skipped in the
    candidate is worse; one of which the candidate has no record makes it *not whole*. Numbers of
    cells that are done in both are compared bit for bit, and where they changed, metrics by their
    seeds (``statistic``); checks over those trained in both; speeds are both runs' ``speed.csv``.
    Raises NotComparable if no trained cell is in common, one is in a run twice, a metric's
    direction is not ``max`` or ``min`` in both, or the data, budget or evaluation of cells finished
    in both differ.
    """
    runs = {"baseline": baseline, "candidate": candidate}
    comparable.check_cells(runs)
    directions = comparable.directions(runs)
    ids = pd.Index(pd.unique(pd.concat([baseline["id"], candidate["id"]])))
    a, b = (run.set_index("id", drop=False).reindex(ids) for run in runs.values())
    comparable.check_alike(a, b)
    status_a, status_b = texts(a, "status"), texts(b, "status")
    both = status_a.isin(TRAINED) & status_b.isin(TRAINED)
    done = (status_a == Status.DONE) & (status_b == Status.DONE)
    machine = ("environment.device", "environment.cpu")
    same = pd.concat([texts(a, name) == texts(b, name) for name in machine], axis=1).all(axis=1)
    topics = texts(a, "topic").where(a["id"].notna(), texts(b, "topic"))
    level = statistic.ALPHA / max(1, topics.nunique())
    rows: list[Row] = []
    judged: list[_Metric] = []
    for topic in sorted(topics.unique()):
        here = topics == topic
        rows += aspects.cells(topic, a[here], b[here], level)
        pair = a[here & done], b[here & done]
        directed = directions.get(topic, {})
        if len(pair[0]):
            rows.append(quality.repeats(topic, *pair, directed))
            rows.append(aspects.memory(topic, *pair, same[here & done].all(), level))
        for metric, direction in directed.items():
            rows += aspects.gaps(topic, metric, direction == "max", *pair)
            judged += _Metric.of(topic, metric, direction == "max", a[here & both], b[here & both])
        rows += aspects.undirected(topic, directed, *pair)
        for name in aspects.CHECKS if (here & both).any() else ():
            rows += aspects.check(topic, name, a[here & both], b[here & both])
    sure = statistic.certain(one for own in judged for one in own.found)
    for topic in dict.fromkeys(one.topic for one in judged):
        own = [one for one in judged if one.topic == topic]
        if silent := [one for one in own if one.changed and not one.found]:
            rows.append(quality.one_seed(topic, {one.name: one.values for one in silent}))
        for one in (one for one in own if one not in silent):
            rows += one.rows(sure)
    rows += speed.rows(*speeds, _elsewhere(speeds, topics[done], same[done]))
    rows.sort(key=lambda row: ORDER.index(row.verdict))
    missing = tuple(ids[status_a.isin(TRAINED) & b["id"].isna()])
    return Comparison(tuple(rows), missing, tuple(ids[a["id"].isna()]))


def _elsewhere(
    speeds: Iterable[pd.DataFrame | None], topics: pd.Series, same: pd.Series
) -> set[str]:
    """Return the timed topics that the runs may have trained on different machines.

    topics and same: of the cells done in both, and whether on one machine. Where some were not, a
    topic without such a cell may not have been either.
    """
    if same.all():
        return set()
    timed = {str(topic) for run in speeds if run is not None for topic in run["topic"]}
    return set(topics[~same]) | timed - set(topics)


@dataclass(frozen=True, eq=False)
class _Metric:
    """A topic's metric in both runs: its finite values, their differences, what counts as none."""

    topic: str
    name: str
    higher: bool
    values: tuple[np.ndarray, np.ndarray]
    found: tuple[Difference, ...]
    margin: float

    @classmethod
    def of(
        cls, topic: str, name: str, higher: bool, baseline: pd.DataFrame, candidate: pd.DataFrame
    ) -> list[_Metric]:
        """Return the metric of cells trained in both, row by row; none if it has no values."""
        a_N, b_N = (statistic.values(run, name) for run in (baseline, candidate))
        finite = np.isfinite(a_N) & np.isfinite(b_N)
        if not finite.any():
            return []
        cells, pair = baseline[finite], (a_N[finite], b_N[finite])
        changed = bool((pair[0] != pair[1]).any())
        found = tuple(statistic.differences(cells, pair)) if changed else ()
        return [cls(topic, name, higher, pair, found, statistic.margin(cells, name))]

    @property
    def changed(self) -> bool:
        """Whether a value is not bit for bit the baseline's."""
        return bool((self.values[0] != self.values[1]).any())

    def rows(self, sure: statistic.Certain) -> Iterator[Row]:
        """Yield its rows, given the differences of all metrics that are beyond chance."""
        a, b = self.values
        if not self.changed:
            note = f"{len(a)} cells, bit for bit the same"
            yield Row(self.topic, self.name, mean(a), mean(b), Verdict.SAME, note)
            return
        yield from quality.metric(
            self.topic, self.name, self.higher, self.values, self.found, sure, self.margin
        )
