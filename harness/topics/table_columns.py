"""Decide what a table's columns are taken for: numbers, levels of text, or nothing.

A decision depends on the column's values, never on the order of the rows. Shapes: N rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api import types

from harness.topics import table_text
from harness.topics.table_text import ALL, MOSTLY, PLAIN, Notation

GAPS = ("", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "null", "NULL")
# Gaps beside numbers or dates only: among other texts they may be levels
ALSO_GAPS = (
    *("-", "--", ".", "none", "missing", "#div/0!", "#value!", "#num!", "#ref!"),
    *("0000-00-00", "0000-00-00 00:00:00"),
)
LEVELS = 20  # of a text column that get a column of their own, the most frequent
OTHER = "(other)"
UNNAMED = r"|None|Unnamed: \d+(_level_\d+)?(\.\d+)?"
IDENTIFIER = re.compile(rf"{UNNAMED}|(?i:index|(.*[ _.-])?(id|idx|uuid|row|rownum))|.*[a-z]I[Dd]")
INDEX = re.compile(r"(?i:.*[ _.-]index)")  # of rows, or a quantity such as a price index
DAYS = "read as days since 1970-01-01"
DAY = pd.Timedelta(days=1).as_unit("s")


@dataclass(frozen=True)
class Column:
    """What a column is taken for.

    values: N numbers (float64, gaps are NaN) or N levels of text (gaps are missing); None if the
    column is left out. note: what to say of it, "" for plain numbers. gaps: the texts that were
    taken for gaps. wrong: why a table that has it cannot be used, "" if it can.
    """

    values: pd.Series | None
    note: str = ""
    gaps: tuple[str, ...] = ()
    wrong: str = ""

    @property
    def numeric(self) -> bool:
        """Return whether it is taken for numbers."""
        return self.values is not None and self.values.dtype == "float64"


def take(frame: pd.DataFrame, separator: str) -> dict[str, Column]:
    """Decide on all columns of a table, by name.

    separator: of its text file, "" if it is from a file with types.
    """
    columns = {str(name): _typed(frame[name]) for name in frame}
    texts = {name: _clean(frame[name]) for name, column in columns.items() if column is None}
    order = table_text.preferred([text for text, _ in texts.values()], separator)
    for name, (text, gaps) in texts.items():
        columns[name] = _written(text, gaps, frame.index, order, typed=not separator)
    return {name: column for name, column in columns.items() if column is not None}


def counter(name: str, column: Column) -> Column:
    """Return a column, left out if it has whole numbers and a name that only tell rows apart.

    Under a name such as price_index they do so only if they count the rows. One that counts the
    rows under another name, which may be a time, stays, with a note.
    """
    if not column.numeric or column.values is None or not column.values.is_unique:
        return column
    value_N = column.values.to_numpy()
    if not np.isfinite(value_N).all() or (value_N % 1).any():
        return column
    low, high = value_N.min(), value_N.max()
    counts = high - low == len(value_N) - 1
    if IDENTIFIER.fullmatch(name) or (counts and INDEX.fullmatch(name)):
        return Column(None, "whole numbers that only tell rows apart: left out")
    if counts and not column.note:
        return Column(column.values, f"counts the rows, {low:.0f} to {high:.0f}: taken for numbers")
    return column


def _typed(series: pd.Series) -> Column | None:
    """Decide on a column by its type; None if it is text."""
    kind = types.infer_dtype(series, skipna=True)
    if isinstance(series.dtype, pd.CategoricalDtype):
        return _levels(series.dropna().astype(str), (), series.index)
    if kind in ("integer", "floating", "mixed-integer-float", "decimal", "boolean"):
        numbers = pd.Series(np.nan, series.index, dtype="float64")
        there = series.notna()
        numbers[there] = series[there].astype("float64")
        said = {"decimal": "decimals, read as floats", "boolean": "booleans, read as 1 and 0"}
        return Column(numbers, said.get(kind, ""))
    if kind in ("datetime64", "datetime", "date"):
        return Column(_days(pd.to_datetime(series, utc=True)), f"dates, {DAYS}")
    if kind in ("timedelta64", "timedelta"):
        durations = pd.to_timedelta(series) / DAY
        return Column(durations.astype("float64"), "durations, read as days")
    if kind in ("string", "empty"):
        return None
    held = {type(value) for value in series.dropna()}
    if all(issubclass(one, str | int | float | np.number) for one in held):
        return None
    names = ", ".join(sorted("list" if one is np.ndarray else one.__name__ for one in held))
    return Column(None, f"holds values of type {names}, neither numbers nor text: left out")


def _clean(series: pd.Series) -> tuple[pd.Series, tuple[str, ...]]:
    """Return a text column's texts without those that stand for gaps, and the latter."""
    text = series.dropna().astype(str).str.strip()
    gap = text.isin(GAPS)
    also = text.str.lower().isin(ALSO_GAPS)
    if also.any():
        rest = text[~gap & ~also]
        if len(rest) and (table_text.notation(rest, ALL) or table_text.like_dates(rest)):
            gap |= also
    return text[~gap], tuple(sorted(set(text[gap]) - {""}))


def _written(
    text: pd.Series,
    gaps: tuple[str, ...],
    index: pd.Index,
    order: Sequence[Notation],
    typed: bool,
) -> Column:
    """Decide on a column by its texts, gaps apart.

    index: of all rows. typed: whether it is from a file that has numbers as such.
    """
    if text.empty:
        return Column(None, "holds nothing but gaps: left out")
    found = table_text.notation(text, order)
    if found is not None:
        number = pd.Series(found.values(text), text.index).reindex(index)
        return Column(number, _number_note(text, found, typed), gaps)
    if set(text.str.lower()) <= {"true", "false"}:
        true = (text.str.lower() == "true").astype("float64").reindex(index)
        return Column(true, "true and false, read as 1 and 0", gaps)
    try:
        moments = table_text.dates(text)
    except ValueError as error:
        return Column(None, wrong=str(error))
    if moments is not None:
        first = text.max()
        moment = moments[text.index[text == first][0]]
        day = f"{moment.year:04}-{moment.month:02}-{moment.day:02}"
        return Column(_days(moments).reindex(index), f"dates, {DAYS} ({first!r} is {day})", gaps)
    if wrong := _mistakes(text):
        return Column(None, wrong=wrong)
    return _levels(text, gaps, index)


def _number_note(text: pd.Series, found: Notation, typed: bool) -> str:
    """Return what to say of texts that are read as numbers: how, with the longest as example."""
    unusual = text[text.str.contains(f"[{found.groups},]")] if found != PLAIN else text[:0]
    words = f"numbers with {found}"
    if unusual.empty:
        unusual, words = text[text.str.fullmatch(r"[+-]?0\d+")], "numbers with leading zeros"
    if len(unusual):
        example = max(unusual, key=lambda one: (len(one), one))
        return f"{words} ({example!r} is {found.values(pd.Series([example]))[0]:.15g})"
    return "text, read as numbers" if typed else ""


def _mistakes(text: pd.Series) -> str:
    """Return what is wrong with texts of which most, but not all, are numbers; "" if nothing is."""
    if text.nunique() <= LEVELS:
        return ""
    number = text.str.fullmatch("|".join(f"(?:{one.pattern})" for one in ALL))
    if number.all():
        return "its numbers are not all written in the same way"
    if number.mean() < MOSTLY:
        return ""
    return (
        f"it holds {number.sum()} numbers, but also {(~number).sum()} texts "
        f"({table_text.some(text[~number])}): write numbers there, or nothing"
    )


def _levels(text: pd.Series, gaps: tuple[str, ...], index: pd.Index) -> Column:
    """Take texts for levels, at most LEVELS and OTHER; leave them out if most rows have their own.

    Among equally frequent levels the alphabet decides.
    """
    counts = text.value_counts()
    if len(counts) <= LEVELS:
        words = f"text of {len(counts)} level{'s' * (len(counts) != 1)}, one-hot"
        return Column(text.astype(object).reindex(index), words, gaps)
    if len(counts) > len(text) / 2:
        words = f"{len(counts)} different texts in {len(text)} rows, as names or identifiers"
        return Column(None, f"{words}: left out")
    often = sorted(counts.index, key=lambda level: (-counts[level], level))[:LEVELS]
    kept = text.where(text.isin(often), OTHER).astype(object)
    words = f"text of {len(counts)} levels, one-hot for the {LEVELS} most frequent and {OTHER}"
    return Column(kept.reindex(index), f"{words} ({(kept == OTHER).mean():.0%} of rows)", gaps)


def _days(moments: pd.Series) -> pd.Series:
    """Return moments (UTC) as days since 1970-01-01, gaps as NaN.

    They stay in their own unit, at least seconds: nanoseconds reach from 1677 to 2262 only.
    """
    return ((moments - pd.Timestamp(0, tz="UTC").as_unit("s")) / DAY).astype("float64")
