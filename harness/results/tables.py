"""Turn records into DataFrames and files: cells, curves and the statistics over them.

Records are plain dicts here (``Record.to_dict``, or a cell's JSON as it was read).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.cell import FP32
from harness.files import write_atomically
from harness.results.bounds import text
from harness.results.columns import (
    ALWAYS,
    BASE,
    CURVE,
    FLAGS,
    GROUPS,
    LINES,
    NUMBERS,
    NUMERIC,
    Tables,
)
from harness.results.effects import effects
from harness.results.improvement import improvement
from harness.results.outdated import Setup, outdated, setups
from harness.results.record import CURVES
from harness.results.summary import summary
from harness.results.target import held_out, with_targets
from harness.results.transfer import transfer

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # as OWASP lists them


def cells(
    records: Iterable[Mapping[str, Any]],
    looks: pd.DataFrame | None = None,
    setups: Mapping[str, Setup] | None = None,
) -> pd.DataFrame:
    """Build the DataFrame of all cells: one row per record, in the records' order.

    The order of the columns does not depend on the records. First id, the axes, status, reason,
    diverged_at (the step, <NA> for others) and where the cell came from, ``outdated`` among them
    (why it is not ranked beside those asked for last); then ``primary``, the name
    of the topic's primary metric; then the record's groups, flattened: ``metric.*`` (trained, on
    test data), ``validation.*`` (trained, on the data that chooses), ``baseline.*`` (untrained or
    random), ``evaluation.*`` (how they were measured), ``direction.*`` (max or min), ``budget.*``,
    ``set.*`` (what was set from outside; ``settings`` is what of that tells cells apart),
    ``cost.*`` (units in the names: s, ms, mb, j), ``checkpoint.*`` and ``parity.*`` (flags are
    nullable booleans, <NA> where not measured), ``environment.*``, and any further group under its
    own name. Missing numbers are NaN, missing texts of the base columns are empty; data_notes and
    unrepeatable have a line for each. looks: what ``target.held_out`` makes of the records, if that
    is at hand. setups: of the cells that were asked for last, as ``outdated.setups`` reads them.
    """
    rows = list(records)
    columns: dict[str, pd.Series] = {}
    for name in BASE:
        values = [row.get(name) for row in rows]
        if name == "rate":
            used = [row.get("rate_used", 1.0) for row in rows]
            columns[name] = pd.Series(used, dtype="float64")
        elif name == "precision":
            columns[name] = pd.Series([value or FP32 for value in values], dtype="str")
        elif name == "settings":
            told = [" ".join(map("=".join, value or ())) for value in values]
            columns[name] = pd.Series(told, dtype="str")
        elif name == "diverged_at":
            columns[name] = pd.Series(values, dtype="Int64")
        elif name in LINES:
            columns[name] = pd.Series(["\n".join(v or ()) for v in values], dtype="str")
        elif name in NUMBERS:
            columns[name] = pd.Series(values, dtype=object).fillna(0).astype("int64")
        else:
            columns[name] = pd.Series(["" if v is None else str(v) for v in values], dtype="str")
    first = [next(iter(row.get("directions") or {}), "") for row in rows]
    columns["primary"] = _primary(columns["topic"], pd.Series(first, dtype="str"))
    extra = {key for row in rows for key, value in row.items() if isinstance(value, dict)}
    for group in [*GROUPS, *sorted(extra - {*GROUPS, *CURVES})]:
        prefix = GROUPS.get(group, group)
        parts = [row.get(group) or {} for row in rows]
        known = ALWAYS.get(prefix, ())
        found = {key for part in parts for key in part}
        for name in [*known, *sorted(found - set(known))]:
            column = f"{prefix}.{name}"
            columns[column] = _column(column, [part.get(name) for part in parts])
    table = pd.DataFrame(columns)
    table.insert(BASE.index("started"), "outdated", outdated(table, setups))
    own = {str(row["topic"]): row.get("target") for row in rows}
    return with_targets(table, held_out(rows) if looks is None else looks, own)


def _primary(topics: pd.Series, first: pd.Series) -> pd.Series:
    """Return each record's primary metric, or its topic's if it has none (skipped or failed)."""
    said = first[first != ""]
    known = dict(zip(topics[said.index][::-1], said[::-1], strict=True))
    fallback = [known.get(topic, "") for topic in topics]
    return first.where(first != "", pd.Series(fallback, dtype="str"))


def _column(column: str, values: Sequence[Any]) -> pd.Series:
    """Make a column: numbers as float64, flags as nullable boolean, everything else as text."""
    if column.split(".")[0] in NUMERIC:
        return pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").astype("float64")
    kinds = {type(value) for value in values if value is not None}
    if column in FLAGS or kinds == {bool}:
        return pd.Series([v if isinstance(v, bool) else None for v in values], dtype="boolean")
    empty_is_text = column.startswith(("environment.", "direction."))
    if kinds <= {int, float} and (kinds or not empty_is_text):
        return pd.Series(values, dtype="float64")
    return pd.Series([None if v is None else text(str(v)) for v in values], dtype="str")


def curves(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Build the DataFrame of all training curves: one row per recorded point of a cell's curve.

    id: categorical; step: optimizer step, from 1; loss: the first player's training loss; lr: its
    learning rate; more columns for what a topic's batches measure (an environment's returns). A
    list that is missing or too short is filled with NaN.
    """
    rows = list(records)
    ids: list[str] = []
    lengths: list[int] = []
    measured = {name for row in rows for name in row.get("curve") or ()} - {*CURVE}
    columns: dict[str, list[np.ndarray]] = {name: [] for name in (*CURVE, *sorted(measured))}
    for row in rows:
        curve = row.get("curve") or {}
        length = len(curve.get("step") or ())
        if not length:
            continue
        ids.append(str(row["id"]))
        lengths.append(length)
        for name, parts in columns.items():
            part = np.array(curve.get(name) or (), dtype=float)[:length]
            parts.append(np.pad(part, (0, length - len(part)), constant_values=np.nan))
    names = list(dict.fromkeys(ids))
    code_of = {name: code for code, name in enumerate(names)}
    codes = np.repeat(np.array([code_of[name] for name in ids], dtype=np.int32), lengths)
    index = pd.Index(names, dtype="str")
    return pd.DataFrame(
        {
            "id": pd.Categorical.from_codes(codes, categories=index),
            **{name: np.concatenate(parts or [np.empty(0)]) for name, parts in columns.items()},
        }
    )


def quality(cells: pd.DataFrame, prefix: str = "metric") -> pd.Series:
    """Return each cell's value of its topic's primary metric, float64; NaN if it has none.

    prefix: ``metric`` for the trained model's value, ``baseline`` for the untrained one's.
    """
    result = pd.Series(np.nan, index=cells.index, dtype="float64")
    for name in cells["primary"].unique():
        if f"{prefix}.{name}" in cells:
            here = cells["primary"] == name
            result[here] = cells.loc[here, f"{prefix}.{name}"].astype("float64")
    return result


def write(records: Iterable[Mapping[str, Any]], folder: Path) -> Tables:
    """Write a run's tables to a folder as CSV and Parquet, and return the DataFrames.

    Cells and curves become Parquet, all but the curves CSV. Each file is replaced at once or not at
    all. In the CSV files, for a spreadsheet takes it for a formula otherwise, a text that begins
    with = + - @, tab, or a line's end has an apostrophe before it; Parquet has all texts as is.
    """
    rows = list(records)
    looks = held_out(rows)
    table = cells(rows, looks, setups(folder))
    told = (summary(table), effects(table), improvement(table), transfer(table))
    result = Tables(table, curves(rows), *told, held_out=looks)
    for name in ("cells", "summary", "effects", "improvement", "transfer"):
        frame = _without_formulas(getattr(result, name))
        csv = frame.to_csv(index=False, lineterminator="\n")
        write_atomically(folder / f"{name}.csv", csv.encode())
    for name in ("cells", "curves", "held_out"):
        buffer = io.BytesIO()
        getattr(result, name).to_parquet(buffer, index=False, compression="zstd")
        write_atomically(folder / f"{name}.parquet", buffer.getvalue())
    return result


def _without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose texts do not begin like a formula: those that did have a ' before."""
    changed = {}
    for name in frame.columns:
        if pd.api.types.is_string_dtype(frame[name]):
            formula = frame[name].str.startswith(FORMULA, na=False)
            changed[name] = frame[name].mask(formula, "'" + frame[name])
    return frame.assign(**changed)
