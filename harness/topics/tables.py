"""Turn a table's file into numbers: features and a target, and what to say of how it was done.

Shapes: N rows, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.cell import UsageError, unknown
from harness.topics import table_files
from harness.topics.folds import validating
from harness.topics.table_columns import Column, counter, take

MOST_GAPS = 0.5  # of a column, beyond which it is left out; of all rows, beyond which none is used
LARGEST = 1e100  # of a number; squares of larger ones overflow
SAME = 1 - 1e-6  # correlation from which a feature counts as the target itself


class Table(NamedTuple):
    """A table as numbers: names of its F features, features_NF and target_N (float64), notes."""

    names: list[str]
    features_NF: np.ndarray
    target_N: np.ndarray
    notes: tuple[str, ...]


def load(path: Path, target: str, batch_size: int = 1) -> Table:
    """Read a table, decide what each column is taken for, and drop rows with gaps.

    batch_size: how many rows a training step takes of those that are for neither testing nor
    validation. Raises UsageError for a table that makes no sense: infinite values, too few rows, a
    target that is not numeric, constant, or among the features.
    """
    frame, separator, said = table_files.read(path)
    target = target if target in frame else target.strip()
    if target not in frame:
        raise unknown("target column", target, frame.columns)
    columns = take(frame, separator)
    for name, column in columns.items():
        if column.wrong:
            raise UsageError(f"table {path}: column {name!r}: {column.wrong}")
    goal = columns.pop(target)
    if not goal.numeric:
        raise UsageError(f"table {path}: target {target!r} must be numeric, not {goal.note}")
    columns = {name: _worth(counter(name, column)) for name, column in columns.items()}
    notes = [*said, *_notes({target: goal}, "target"), *_notes(columns, "column")]
    used = {name: c for name, c in [(target, goal), *columns.items()] if c.values is not None}
    values = pd.DataFrame({name: column.values for name, column in used.items()})
    complete = values.dropna()
    if len(complete) < len(values):
        notes.append(_gaps(path, values, used))
    _refuse_infinite(path, complete)
    _refuse_few(path, len(complete), batch_size)
    target_N = complete.pop(target).to_numpy()
    if target_N.min() == target_N.max():
        raise UsageError(
            f"table {path}: target {target!r} must be numeric with at least two different values"
        )
    names, features = [], []
    for name in map(str, complete):
        own = complete[name]
        if own.nunique() < 2:
            notes.append(f"column {name!r}: constant: left out")
        elif used[name].numeric:
            names.append(name)
            features.append(own.to_numpy())
        else:
            for level in sorted(own.unique()):
                names.append(f"{name}={level}")
                features.append((own == level).to_numpy("float64"))
    if not features:
        why = "".join(f"; {note}" for note in notes)
        raise UsageError(f"table {path}: no feature columns are left beside {target!r}{why}")
    table = Table(names, np.column_stack(features), target_N, tuple(notes))
    _refuse_copies(path, table, target)
    return table


def least_rows(batch_size: int) -> int:
    """Return how many rows leave a batch for training.

    A fifth of them is for testing, and an eighth of the others for validation.
    """

    def training(rows: int) -> int:
        return rows - rows // 5 - validating(rows - rows // 5)

    return next(n for n in count(batch_size) if training(n) >= batch_size and n >= 5)


def _notes(columns: Mapping[str, Column], word: str) -> list[str]:
    return [f"{word} {name!r}: {c.note}" for name, c in columns.items() if c.note]


def _worth(column: Column) -> Column:
    """Return a column, left out if most of it is gaps."""
    if column.values is None or column.values.isna().mean() <= MOST_GAPS:
        return column
    rows, gaps = len(column.values), column.values.isna().sum()
    return Column(None, f"{gaps} of {rows} values are gaps: left out")


def _gaps(path: Path, values: pd.DataFrame, columns: Mapping[str, Column]) -> str:
    """Return which rows are dropped, and for which columns. Raises UsageError if most would be."""
    lost = int(values.isna().any(axis=1).sum())
    counts = values.isna().sum()
    each = []
    for name in counts[counts > 0].sort_values(ascending=False, kind="stable").index:
        written = ", ".join(map(repr, columns[name].gaps))
        each.append(f"{name!r} {counts[name]}" + f" ({written})" * bool(written))
    text = f"{lost} of {len(values)} rows have gaps and are left out: {', '.join(each)}"
    if lost > MOST_GAPS * len(values):
        raise UsageError(f"table {path}: {text}; fill the gaps, or remove such columns")
    return text


def _refuse_infinite(path: Path, complete: pd.DataFrame) -> None:
    numbers = complete.select_dtypes("float64")
    counts = (numbers.abs() > LARGEST).sum()
    if counts.any():
        each = ", ".join(f"{name!r} {n}" for name, n in counts[counts > 0].items())
        raise UsageError(
            f"table {path}: infinite values, or beyond {LARGEST}, in {each}: replace or empty them"
        )


def _refuse_few(path: Path, rows: int, batch_size: int) -> None:
    least = least_rows(batch_size)
    if rows < least:
        raise UsageError(
            f"table {path}: {rows} complete rows, but at least {least} are needed: "
            "a fifth is for testing, an eighth of the others for validation, and a training batch "
            f"takes {batch_size} of the rest"
        )


def _refuse_copies(path: Path, table: Table, target: str) -> None:
    """Raise UsageError if a feature gives the target away: it is a copy, or so in other units."""
    x_NF = table.features_NF - table.features_NF.mean(0)
    y_N = table.target_N - table.target_N.mean()
    size_F = np.linalg.norm(x_NF, axis=0) * np.linalg.norm(y_N)
    same_F = np.abs(y_N @ x_NF) >= SAME * size_F
    copies = [repr(name) for name, same in zip(table.names, same_F, strict=True) if same]
    if copies:
        raise UsageError(
            f"table {path}: {', '.join(copies)} gives the target {target!r} away "
            "(a copy, or the same in other units): remove it"
        )
