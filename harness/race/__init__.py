"""Race recipes against each other, seed by seed, until the best are told apart from the rest."""

from __future__ import annotations

from collections.abc import Iterable

from harness.cell import Cell
from harness.race import answers, course
from harness.runs import Run


def hold(run: Run, cells: Iterable[Cell], minutes: float) -> None:
    """Race the recipes of ``cells``, and keep the answers in the run's folder as they come."""
    course.hold(run, cells, minutes, lambda found: answers.keep(run.folder, found, run.report))


__all__ = ["hold"]
