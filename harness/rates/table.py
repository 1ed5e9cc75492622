"""The table of learning rates: for each recipe, the multiple of its topic's own that serves it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from harness.cell import Cell, UsageError
from harness.files import write_atomically

SHIPPED = Path(__file__).with_name("shipped.csv")
RATES = "rates.csv"
TRIALS = "trials.csv"
KEY = ("topic", "model", "loss", "schedule")
EVIDENCE = (*KEY, "rate", "share", "seed", "status", "value", "metric", "direction")
LATER = ("second",)  # columns that earlier versions did not write

Recipe = tuple[str, str, str, str]


def recipe(cell: Cell) -> Recipe:
    """Return what a learning rate is found for: the cell's topic, model, loss and schedule."""
    return cell.topic, cell.model, cell.loss, cell.schedule


@dataclass(frozen=True)
class Rates:
    """Multiples of the topics' own learning rates, by recipe; 1 for a recipe that is not there.

    evidence: lines of ``trials.csv``, by recipe, that lay beside a table: what was trained for it.
    """

    found: Mapping[Recipe, float] = field(default_factory=dict)
    evidence: Mapping[Recipe, Sequence[Mapping[str, str]]] = field(default_factory=dict)

    def of(self, cell: Cell) -> float:
        """Return the multiple that a cell trains at: its own, else its recipe's."""
        return self.found.get(recipe(cell), 1.0) if cell.rate is None else cell.rate

    def of_topics(self, names: Iterable[str]) -> Rates:
        """Return the rates of the topics of these names."""
        kept = set(names)
        own = {key: rate for key, rate in self.found.items() if key[0] in kept}
        return Rates(own, {key: rows for key, rows in self.evidence.items() if key[0] in kept})

    def over(self, others: Rates) -> Rates:
        """Return these rates, with those of other recipes from another table."""
        others_left = {key: rows for key, rows in others.evidence.items() if key not in self.found}
        return Rates({**others.found, **self.found}, {**others_left, **self.evidence})

    def leave_evidence(self, cells: Iterable[Cell], folder: Path) -> None:
        """Write what was trained for the rates of cells to ``folder/trials.csv``, if anything.

        Rows of other recipes stay. The folder of a search, with its ``rates.csv``, keeps its own.
        """
        recipes = dict.fromkeys(recipe(cell) for cell in cells if cell.rate is None)
        new = {key: self.evidence[key] for key in recipes if key in self.evidence}
        if new and not (folder / RATES).exists():
            whole = {**_evidence(folder / TRIALS), **new}
            rows = [row for own in whole.values() for row in own]
            text = io.StringIO()
            columns = (*EVIDENCE, *LATER)
            table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
            write_atomically(folder / TRIALS, text.getvalue().encode())


def read(path: Path) -> Rates:
    """Read a table of rates: a CSV file with columns topic, model, loss, schedule and rate.

    Further columns are evidence. Raises UsageError for what is no such table.
    """
    found: dict[Recipe, float] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if lacking := [n for n in (*KEY, "rate") if n not in (rows.fieldnames or ())]:
                raise UsageError(f"rates {path} lacks the column {lacking[0]}: see harness.rates")
            for row in rows:
                try:
                    topic, model, loss, schedule = (row[name] for name in KEY)
                    cell = Cell(topic, model, loss, schedule, rate=float(row["rate"]))
                except (TypeError, ValueError) as error:
                    raise UsageError(f"rates {path}, line {rows.line_num}: {error}") from None
                if recipe(cell) in found:
                    names = "/".join(recipe(cell))
                    raise UsageError(f"rates {path}, line {rows.line_num}: {names} is there twice")
                assert cell.rate is not None
                found[recipe(cell)] = cell.rate
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"rates {path} cannot be read: {error}") from None
    every = _evidence(path.with_name(TRIALS))
    return Rates(found, {key: rows for key, rows in every.items() if key in found})


def _evidence(path: Path) -> Mapping[Recipe, Sequence[Mapping[str, str]]]:
    """Return the rows of the trainings that tables rest on, by recipe; none if they are lost."""
    rows: dict[Recipe, list[dict[str, str]]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                topic, model, loss, schedule = (row.get(name) or "" for name in KEY)
                key = (topic, model, loss, schedule)
                if all(row.get(name) is not None for name in EVIDENCE):
                    rows.setdefault(key, []).append(row)
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    return rows


@cache
def shipped() -> Rates:
    """Return the table that comes with this package, found on the built-in topics' own data."""
    return read(SHIPPED)
