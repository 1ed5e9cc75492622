"""Tell numbers and dates that are written as text, whatever the country's way of writing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

SPACES = " \u00a0\u202f'\u2019"  # between thousands, in French, by ISO 31-0 and in Swiss
DATE = r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ].*)?"
DAYS = (
    *("%d.%m.%Y", "%d.%m.%y"),
    *("%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y"),
    *("%d-%m-%Y", "%m-%d-%Y", "%d-%m-%y", "%m-%d-%y", "%y-%m-%d"),
)
TIMES = ("", " %H:%M", " %H:%M:%S")
MOSTLY = 0.9  # share of numbers or dates from which texts among them are taken for mistakes


@dataclass(frozen=True)
class Notation:
    """A way to write numbers: the decimal sign, and the signs between groups of three digits."""

    decimal: str
    groups: str = ""

    @property
    def pattern(self) -> str:
        """Return the regular expression of all numbers written so, infinite ones too."""
        point = "[" + self.decimal + "]"
        found = rf"(?:\d+(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?|(?i:inf(?:inity)?)"
        if self.groups:
            found += rf"|[1-9]\d{{0,2}}(?:[{self.groups}]\d{{3}})+(?:{point}\d*)?"
        return rf"[+-]?(?:{found})"

    def values(self, text: pd.Series) -> np.ndarray:
        """Return the numbers, float64, that texts of this notation write."""
        for sign in self.groups:
            text = text.str.replace(sign, "", regex=False)
        if self.decimal == ",":
            text = text.str.replace(",", ".", regex=False)
        return text.to_numpy(dtype=object).astype("float64")

    def __str__(self) -> str:
        words = ["a decimal comma"] if self.decimal == "," else []
        return " and ".join(words + ["signs between thousands"] * bool(self.groups))


PLAIN = Notation(".")
ENGLISH = (PLAIN, Notation(".", ","), Notation(".", SPACES))
EUROPEAN = (Notation(","), Notation(",", "."), Notation(",", SPACES))
ALL = ENGLISH + EUROPEAN


def notation(text: pd.Series, order: Sequence[Notation]) -> Notation | None:
    """Return the first notation that all texts are written in; None if there is none."""
    return next((one for one in order if text.str.fullmatch(one.pattern).all()), None)


def preferred(columns: Sequence[pd.Series], separator: str) -> tuple[Notation, ...]:
    """Return all notations, first those that a table's columns speak for.

    Text such as 1,234 and 1.234 can be read in two ways. Where another column can be read in one
    only, that decides; else a semicolon as the separator speaks for decimal commas.
    """
    commas = points = either = False
    for text in columns:
        english, european = notation(text, ENGLISH), notation(text, EUROPEAN)
        points |= english is not None and european is None
        commas |= english is None and european is not None
        signless = (english, european) == (ENGLISH[0], EUROPEAN[0])
        either |= None not in (english, european) and not signless
    if not points and (commas or (either and separator == ";")):
        return EUROPEAN + ENGLISH
    return ENGLISH + EUROPEAN


def like_dates(text: pd.Series) -> bool:
    """Return whether all texts look like dates, in whatever order of day, month and year."""
    return bool(text.str.fullmatch(DATE).all())


def dates(text: pd.Series) -> pd.Series | None:
    """Return texts as moments (UTC) if all are dates in one and the same format, else None.

    Raises ValueError if day, month and year can be told apart in two ways that give other moments,
    and if most texts are dates, but not all in one format.
    """
    if not like_dates(text):
        return None
    found, one_of = [], pd.Series(False, index=text.unique())
    formats = ["ISO8601", *(day + time for time in TIMES for day in DAYS)]
    distinct = pd.Series(one_of.index)
    for one in formats:
        moments = pd.to_datetime(distinct, format=one, errors="coerce", utc=True)
        if moments.notna().all():
            found.append(moments)
        one_of |= moments.notna().to_numpy()
    if not found:
        _refuse_others(text, text.map(one_of))
        return None
    moments, *others = found
    if any(not moments.equals(other) for other in others):
        raise ValueError(
            f"{min(distinct)!r} can be read in more than one order of day, month and year: "
            "write dates as YYYY-MM-DD"
        )
    return text.map(pd.Series(moments.array, index=distinct))


def _refuse_others(text: pd.Series, date: pd.Series) -> None:
    """Raise ValueError if most texts are dates, each in some format, but all are not in one."""
    if date.all():
        raise ValueError("its dates are not all written in the same way: write them as YYYY-MM-DD")
    if date.mean() >= MOSTLY:
        raise ValueError(
            f"it holds {date.sum()} dates, but also {(~date).sum()} texts that are none "
            f"({some(text[~date])}): write dates there, or nothing"
        )


def some(text: pd.Series) -> str:
    """Return the first three of different texts, and whether there are more."""
    different = sorted(set(text))
    return ", ".join(map(repr, different[:3])) + ", ..." * (len(different) > 3)
