"""Say what a run would do with its cells, and what that would cost, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.cell import Cell
from harness.runs import Run


def lines(run: Run, cells: Sequence[Cell]) -> Iterator[str]:
    """Yield a line for each cell (skip, have or train, with its seconds), then the minutes of all.

    Seconds are wall time, as a cell's record or its budget predicts them on this machine; minutes
    are those on all cores, or GPUs.
    """
    wall_s = 0.0
    for cell in cells:
        if reason := run.skip_reason(cell):
            yield f"skip  {cell.id}: {reason}"
        elif run.done(cell):
            yield f"have  {cell.id}"
        else:
            wall_s += run.predict(cell) * run.ranks(cell) / run.at_once(cell)
            yield f"train {cell.id}: about {run.predict(cell):.1f} s"
    minutes = wall_s / 60
    if run.profile == "race":
        yield f"{len(cells)} cells, about {minutes:.1f} minutes a block, of several"
    else:
        yield f"{len(cells)} cells, about {minutes:.1f} minutes to train"
