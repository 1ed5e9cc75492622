"""Tell which cells of a folder are of another experiment than those asked for last."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from harness.results import bounds

TRIED = ("done", "unmeasured", "diverged", "failed", "timeout")
DATA, BUDGET = ".data", "budget."  # in the names of a setup's parts

Setup = Mapping[str, str]  # hashes of what cells share, by name


def setup_of(text: str) -> dict[str, str]:
    """Return the parts of a record's setup, such as ``mine=1a2b mine.data=3c4d focal=5e6f``."""
    return dict(part.partition("=")[::2] for part in text.split())


def setups(folder: Path) -> dict[str, dict[str, str]]:
    """Return by topic the setup of the cells that were asked for last in a run's folder.

    Empty where that is not on record.
    """
    try:
        found = json.loads(bounds.read_bytes(folder / "environment.json"))["setups"]
        return {str(topic): {**parts} for topic, parts in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def outdated(cells: pd.DataFrame, now: Mapping[str, Setup] | None = None) -> pd.Series:
    """Return why each cell is not ranked beside the last ones of its topic; empty if it is.

    A folder keeps what a later run does not train anew. What has other code or fields, other data
    or another budget than the cells that were asked for last is of another experiment.
    now: by topic the setup of these; where it is not known, the last cell that was trained tells.
    """
    why = pd.Series("", cells.index, dtype="str")
    tried = cells[cells["status"].isin(TRIED)].sort_values("started", kind="stable")
    for topic, part in tried.groupby("topic", sort=False):
        # of a record of an earlier version nothing is known
        rows = [{str(topic): "", **setup_of(text)} for text in part["setup"]]
        named = pd.DataFrame(rows, index=part.index)
        last = named.ffill().iloc[-1].to_dict() | dict((now or {}).get(str(topic), {}))
        unlike = named.notna() & named.ne(pd.Series({name: last[name] for name in named}))
        for reason, names in _REASONS.items():
            some = unlike[[name for name in named if names(str(name))]].any(axis=1)
            why[some[some].index] = reason
    return why


_REASONS: dict[str, Callable[[str], bool]] = {  # by the part that differs; the last one counts
    "other code or fields": lambda name: True,
    "another budget": lambda name: name.startswith(BUDGET),
    "other data": lambda name: name.endswith(DATA),
}


def lines(cells: pd.DataFrame) -> list[str]:
    """Return a line for each topic's cells that are outdated, by what they have."""
    groups = cells[cells["outdated"] != ""].groupby(["topic", "outdated"])
    return [
        f"{topic}: {len(part)} {'cells have' if len(part) > 1 else 'cell has'} {why} than those "
        "asked for last: not ranked with them"
        for (topic, why), part in groups
    ]
