"""Compare the cells of two runs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from harness.cell import Status
from harness.results.compare import aspects, comparable
from harness.results.compare.rows import Row, texts
from harness.results.record import TRAINED
from harness.results.verdict import Verdict

ORDER = (Verdict.WORSE, Verdict.NOT_WHOLE, Verdict.BETTER, Verdict.SAME)


@dataclass(frozen=True)
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


def compare(baseline: pd.DataFrame, candidate: pd.DataFrame) -> Comparison:
    """Compare a candidate run with a baseline, from their DataFrames of ``tables.cells``.

    Cells are matched by id. One that the baseline trained and that failed or was skipped in the
    candidate is worse; one of which the candidate has no record makes it *not whole*. Metrics and
    costs are compared over cells that are done in both (``statistic.judged``; costs where the
    median ratio is off by over 5 %), checks over those trained in both. Raises NotComparable if no
    trained cell is in common, one is in a run twice, a metric's direction is not ``max`` or ``min``
    in both, or the data, budget or evaluation of cells finished in both differ.
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
    same_machine = all((texts(a, name) == texts(b, name))[done].all() for name in machine)
    topics = texts(a, "topic").where(a["id"].notna(), texts(b, "topic"))
    rows: list[Row] = []
    for topic in sorted(topics.unique()):
        here = topics == topic
        rows += aspects.cells(topic, a[here], b[here])
        pair = a[here & done], b[here & done]
        for metric, direction in directions.get(topic, {}).items():
            rows += aspects.metric(topic, metric, direction == "max", *pair)
        rows += aspects.undirected(topic, directions.get(topic, {}), *pair)
        for name in aspects.COSTS if (here & done).any() else ():
            rows.append(aspects.cost(topic, name, *pair, same_machine))
        for name in aspects.CHECKS if (here & both).any() else ():
            rows += aspects.check(topic, name, a[here & both], b[here & both])
    rows.sort(key=lambda row: ORDER.index(row.verdict))
    missing = tuple(ids[status_a.isin(TRAINED) & b["id"].isna()])
    return Comparison(tuple(rows), missing, tuple(ids[a["id"].isna()]))
