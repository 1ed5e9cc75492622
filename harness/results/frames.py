"""Read the cells of a run's folder as a DataFrame, from its records or else from its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from harness.cell import Cell, Status, UsageError, unknown
from harness.results import bounds, outdated, side_files, tables
from harness.results.columns import ALWAYS, FLAGS, GROUPS, LINES, NUMBERS, NUMERIC
from harness.results.store import Store

FORMULA = ("'=", "'+", "'-", "'@", "'\t", "'\r", "'\n")  # how a CSV has texts that begin like one
WHOLE = NUMBERS | {"diverged_at"}
GROUP_OF = {prefix: group for group, prefix in GROUPS.items()}
TEXTS = (
    *("direction.", "samples.", "alone.", "evaluation.extractor", "parity.reason"),
    *(f"environment.{name}" for name in {*ALWAYS["environment"], "platform"} - {"threads"}),
)


def read(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return a run's cells as ``tables.cells`` does, and a line for each record it could not read.

    They come from the records under ``cells``; where there are none, as in a run kept without them,
    from ``cells.parquet`` or else ``cells.csv``. Raises UsageError if there is none of them, no
    record can be read, or a table is damaged.
    """
    store = Store(folder)
    records = [record.to_dict() for record in store]
    if records:
        return tables.cells(records, setups=outdated.setups(folder)), store.set_aside
    if store.set_aside:
        raise UsageError(f"{folder} holds no record that can be read: {store.set_aside[0]}")
    for name, load in (("cells.parquet", _parquet), ("cells.csv", _csv)):
        path = folder / name
        if path.exists():
            try:
                if not (found := load(path)):
                    raise UsageError("it has no rows")
                return tables.cells(found, setups=outdated.setups(folder)), []
            except (UsageError, ValueError, OSError) as error:
                raise UsageError(bounds.line(f"{path} is no table of cells: {error}")) from None
    wanted = "cells/*.json, cells.parquet or cells.csv"
    raise UsageError(f"{folder} {f'holds no {wanted}' if folder.is_dir() else 'is no folder'}")


def speed(folder: Path, unread: list[str]) -> pd.DataFrame | None:
    """Return a run's ``speed.csv``, None if it has none; one that is damaged is named in unread."""
    try:
        return side_files.study(folder, "speed")
    except FileNotFoundError:
        return None
    except ValueError as error:
        unread.append(f"{folder / 'speed.csv'} is damaged: {error}")
        return None


def _parquet(path: Path) -> list[dict[str, Any]]:
    """Read the records of a Parquet table of cells."""
    frame = pd.read_parquet(path)
    plain = frame.astype(object).where(frame.notna(), None)
    return [_record(row) for row in plain.to_dict("records")]


def _csv(path: Path) -> list[dict[str, Any]]:
    """Read the records of a CSV table of cells, whose columns get their types back."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    typed = {str(column): _typed(frame, str(column)) for column in frame}
    return [
        _record(dict(zip(typed, row, strict=True))) for row in zip(*typed.values(), strict=True)
    ]


def _typed(frame: pd.DataFrame, column: str) -> list[Any]:
    """Return a CSV column's values: numbers, flags or texts, None where empty.

    Raises ValueError for a value that the column cannot have.
    """
    values = [value[1:] if value.startswith(FORMULA) else value for value in frame[column]]
    if column in WHOLE or column.split(".")[0] in NUMERIC:
        kinds: tuple[type, ...] = (float,)
    elif column in FLAGS:
        kinds = (bool,)
    elif "." not in column or column.startswith(TEXTS):
        kinds = (str,)
    else:
        kinds = (bool, float, str)
    for kind in kinds:
        try:
            return [_as(kind, value) if value else None for value in values]
        except ValueError as error:
            told = error
    row = next(row for row, value in enumerate(values) if value == told.args[1])
    raise ValueError(f"{column} of {frame.iloc[row].get('id')} is {told.args[1]!r}: {told.args[0]}")


def _as(kind: type, value: str) -> Any:
    """Return a text as a value of a kind. Raises ValueError of what it should be and the text."""
    try:
        return {"True": True, "False": False}[value] if kind is bool else kind(value)
    except (KeyError, ValueError):
        what = "True or False" if kind is bool else "a number"
        raise ValueError(f"it must be {what}", value) from None


def _record(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a table's row as a record. Raises UsageError if it has no id or no known status."""
    for name in ("id", "status"):
        if not isinstance(row.get(name), str):
            raise UsageError(f"{row.get('id')} has no {name}")
    if row["status"] not in set(Status):
        raise unknown(f"status of {row['id']}", row["status"], set(Status))
    record: dict[str, Any] = {group: {} for group in GROUPS}
    groups = []
    for column, value in row.items():
        prefix, dot, name = column.partition(".")
        if not dot:
            record[column] = int(value) if column in WHOLE and value is not None else value
        elif value is not None or prefix != "direction":
            groups.append((GROUP_OF.get(prefix, prefix), name, value))
    groups.sort(key=lambda one: one[1] != row.get("primary"))  # the primary metric is said first
    for group, name, value in groups:
        record.setdefault(group, {})[name] = value
    for name in LINES:
        if record.get(name):
            record[name] = record[name].splitlines()
    record["rate_used"] = 1.0 if record.get("rate") is None else float(record["rate"])
    return record | asdict(Cell.parse(row["id"]))
