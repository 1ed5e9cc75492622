"""A row of a comparison, and how it reads the columns of a run's cells."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.cell import some_of
from harness.results.verdict import Verdict


@dataclass(frozen=True)
class Row:
    """The verdict over one aspect of a topic's cells.

    aspect: ``cells``, a metric, a cost or a check. baseline, candidate: both runs' figures (counts
    of finished cells, means, shares of checks that hold), NaN where there is none. cells: the ids
    of those that decide it, where it is about certain ones.
    """

    topic: str
    aspect: str
    baseline: float
    candidate: float
    verdict: Verdict
    note: str = ""
    cells: tuple[str, ...] = ()


def naming(what: str, ids: Sequence[str], reason: str = "") -> str:
    """Return a note on cells: how many, what of them, the first one's reason, the first ids."""
    reason = textwrap.shorten(reason, 100, placeholder=" ...")
    why = f" ({reason})" if reason else ""
    return f"{len(ids)} {what}{why}: {some_of(ids, 3)}"


def numbers(cells: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column as float64, all NaN if there is no such column."""
    if column not in cells:
        return np.full(len(cells), np.nan)
    return cells[column].to_numpy("float64", na_value=np.nan)


def flags(cells: pd.DataFrame, column: str) -> pd.Series:
    """Return a column of flags as nullable boolean, all <NA> if there is no such column."""
    if column not in cells:
        return pd.Series(pd.NA, index=cells.index, dtype="boolean")
    return cells[column].astype("boolean")


def texts(cells: pd.DataFrame, column: str) -> pd.Series:
    """Return a column as text, empty where it is missing or there is no such column."""
    if column not in cells:
        return pd.Series("", index=cells.index, dtype="str")
    return cells[column].astype("str").where(cells[column].notna(), "")


def alike(baseline: pd.DataFrame, candidate: pd.DataFrame) -> pd.Series:
    """Return which cells promise the same numbers in both runs, bit for bit.

    Their fingerprints (code, data, budget, versions, processor) and populations are the same, and
    neither used an operator that gives other bits each time.
    """
    a, b = (texts(run, "fingerprint") for run in (baseline, candidate))
    sizes = [texts(run, "population") for run in (baseline, candidate)]
    bound = [texts(run, "unrepeatable") == "" for run in (baseline, candidate)]
    return (a == b) & (a != "") & (sizes[0] == sizes[1]) & bound[0] & bound[1]


def mean(values: np.ndarray) -> float:
    """Return the mean; NaN of none."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(values.mean()) if len(values) else float("nan")
