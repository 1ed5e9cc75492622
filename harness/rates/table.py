"""The table of learning rates: for each recipe, the multiple of its topic's own that serves it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from harness.cell import Cell, UsageError

SHIPPED = Path(__file__).with_name("shipped.csv")
KEY = ("topic", "model", "loss", "schedule")

Recipe = tuple[str, str, str, str]


def recipe(cell: Cell) -> Recipe:
    """Return what a learning rate is found for: the cell's topic, model, loss and schedule."""
    return cell.topic, cell.model, cell.loss, cell.schedule


@dataclass(frozen=True)
class Rates:
    """Multiples of the topics' own learning rates, by recipe; 1 for a recipe that is not there."""

    found: Mapping[Recipe, float] = field(default_factory=dict)

    def of(self, cell: Cell) -> float:
        """Return the multiple that a cell trains at: its own, else its recipe's."""
        return self.found.get(recipe(cell), 1.0) if cell.rate is None else cell.rate

    def over(self, others: Rates) -> Rates:
        """Return these rates, with those of other recipes from another table."""
        return replace(self, found={**others.found, **self.found})


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
    return Rates(found)


@cache
def shipped() -> Rates:
    """Return the table that comes with this package, found on the built-in topics' own data."""
    return read(SHIPPED)
