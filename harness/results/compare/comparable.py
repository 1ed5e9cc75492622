"""Whether two runs measured the same thing, so that their numbers may be compared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pandas as pd

from harness.cell import Status, UsageError
from harness.results.compare.rows import texts
from harness.results.record import TRAINED

DIRECTIONS = ("max", "min")
TRAINING = ("dataset", "budget.steps", "budget.batch_size", "budget.samples")
WATCHING = ("set.timeout_s", "set.looks")  # settings that decide no number
MEASURING = ("extractor", "real", "generated", "episodes", "held_out", "importance_samples")
CONTENT = re.compile(r".*@([0-9a-f]{8,})", re.DOTALL)  # a hash, unlike CartPole-v1@gymnasium-1.4.0

Runs = Mapping[str, pd.DataFrame]


class NotComparable(UsageError):  # noqa: N818  (it reads as what it says)
    """Raised for two runs that measured different things; the message says which."""


def check_cells(runs: Runs) -> None:
    """Raise NotComparable unless each run has a cell once, and one trained cell is in both."""
    tried, trained = (
        [set(run.loc[run["status"].isin(kinds), "id"]) for run in runs.values()]
        for kinds in ([*set(Status) - {Status.SKIPPED}], TRAINED)
    )
    if not (trained[0] & tried[1] or trained[1] & tried[0]):
        raise NotComparable("the two runs have no trained cell in common")
    for name, run in runs.items():
        twice = run.loc[run["id"].duplicated(), "id"]
        if len(twice):
            raise NotComparable(f"{twice.iloc[0]} is more than once in the {name}")


def directions(runs: Runs) -> dict[str, dict[str, str]]:
    """Return per topic each metric's direction, the primary metric first.

    Raises NotComparable for one that is neither ``max`` nor ``min``, or not the same everywhere.
    """
    found: dict[str, dict[str, str]] = {}
    for topic, metric, direction, name in _said(runs):
        what = f"the direction of {topic}'s {metric} is {direction!r} in the {name}"
        if direction not in DIRECTIONS:
            raise NotComparable(f"{what}: max and min are allowed")
        first = found.setdefault(topic, {}).setdefault(metric, direction)
        if first != direction:
            raise NotComparable(f"{what} and {first!r} before: one of max and min is allowed")
    return found


def _said(runs: Runs) -> Iterator[tuple[str, str, str, str]]:
    """Yield topic, metric, direction and run of every direction that a run says."""
    for name, run in runs.items():
        columns = [str(column) for column in run if str(column).startswith("direction.")]
        for topic, cells in run.groupby("topic"):
            primary = {f"direction.{metric}" for metric in cells["primary"]}
            for column in sorted(columns, key=lambda column: column not in primary):
                for direction in cells[column].dropna().unique():
                    yield str(topic), column.removeprefix("direction."), str(direction), name


def check_alike(baseline: pd.DataFrame, candidate: pd.DataFrame) -> None:
    """Raise NotComparable, naming a cell, where data, budget, settings or evaluation differ.

    Both hold the same cells row by row. Data, budget and settings are held against each other for
    cells that were trained in both, the evaluation for those that are done in both. Data with a
    hash of its content is known by that, whatever it was named.
    """
    both = _status(baseline, TRAINED) & _status(candidate, TRAINED)
    done = _status(baseline, (Status.DONE,)) & _status(candidate, (Status.DONE,))
    names = {str(name) for run in (baseline, candidate) for name in run}
    settings = sorted(name for name in names - {*WATCHING} if name.startswith("set."))
    columns = [(column, both) for column in [*TRAINING, *settings]]
    for column, among in columns + [(f"evaluation.{name}", done) for name in MEASURING]:
        a, b = (texts(run, column)[among] for run in (baseline, candidate))
        for cell, was, now in zip(a.index, a, b, strict=True):
            if was != now and not (column == "dataset" and _same_content(was, now)):
                none = "not set" if column in settings else "not known"
                said = f"{was or none} in the baseline and {now or none}"
                raise NotComparable(f"{column} of {cell} is {said} in the candidate")


def _same_content(a: str, b: str) -> bool:
    """Return whether both data sets have a hash of their content, the same one."""
    found = [CONTENT.fullmatch(name) for name in (a, b)]
    return None not in found and len({match[1] for match in found if match}) == 1


def _status(cells: pd.DataFrame, statuses: tuple[Status, ...]) -> pd.Series:
    """Return which cells have one of some statuses."""
    return texts(cells, "status").isin(statuses)
