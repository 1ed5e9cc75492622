"""Find the learning rate that serves each recipe: topic, model, loss and schedule.

Recipes are those that the profile trains, or with -k those of all losses and schedules that it
matches. Each is trained whole at several rates on a ninth of the steps, at the best of them on a
third and on all, and validated; the best one then trains with two further seeds, and so do those
that are then before it, or behind by no more than seeds scatter. What is there already is not
trained again. Train at the table with --rates.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from harness import options
from harness.cell import Cell, UsageError
from harness.topics.options import TOPIC_OPTIONS

if TYPE_CHECKING:
    from harness.training.topic import Topic


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument(
        "paths", nargs="*", default=[], help="of the project's tests, whose conftests have topics"
    )
    parser.add_argument(
        "-k",
        metavar="EXPRESSION",
        dest="matching",
        help="as pytest's, on parts of ids (ce is in piecewise too; --loss ce is exact)",
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="of each training (1)")
    about = ("profile", "run_dir", "device", "per_gpu")
    options.add(parser.add_argument, [options.RunOptions], about)
    options.add(parser.add_argument, [options.AxisOptions], ("model", "loss", "schedule"))
    options.add(parser.add_argument, [options.SettingOptions, *TOPIC_OPTIONS])


def run(chosen: argparse.Namespace) -> int:
    """Tune the chosen recipes, and print where the table of rates is."""
    from harness import chosen as by_axis
    from harness import matrix, project
    from harness.interrupts import end_as_by_ctrl_c
    from harness.studies import tuning

    configured = project.configure(chosen, ("profile", "device", "per_gpu"), chosen.paths)
    told = options.RunOptions(**options.given(chosen, [options.RunOptions]))
    if chosen.seeds < 1:
        raise UsageError(f"seeds {chosen.seeds}: it must be 1 or more")
    topics = project.topics_of(chosen.paths, **options.given(chosen, TOPIC_OPTIONS))
    settings = project.settings_of(chosen, configured, topics)
    for name, swept in settings.swept.items():
        one = next(iter(swept))
        raise UsageError(f"{name}.{one}={','.join(swept[one])}: rates are found for one value")
    topics = settings.applied(topics)
    every = matrix.select(topics, told.profile)
    if axes := options.given(chosen, [options.AxisOptions]):
        every = by_axis.select(topics, told.profile, axes)
    cells = [cell for name in every for cell in every[name]]
    if chosen.matching is not None and not axes:
        cells = [c for topic in topics.values() for c in matrix.full(topic, [0])]
    recipes = matching(worth(topics, cells), chosen.matching)
    if not recipes:
        what = "nothing that is chosen is a" if axes else f"-k {chosen.matching!r} matches no"
        raise UsageError(f"{what} recipe that has a learning rate")
    folder = Path(told.run_dir or Path("results") / "tune")
    with ExitStack() as ending:
        end_as_by_ctrl_c(ending.callback)
        table = tuning.tune(
            topics,
            recipes,
            folder,
            told.profile,
            chosen.seeds,
            lambda line: print(line, flush=True),
            told.device or "",
            told.per_gpu,
            settings,
        )
    print(f"decathlon: see {table}; train at these rates with --rates {table}")
    return 0


def worth(topics: Mapping[str, Topic], cells: Iterable[Cell]) -> list[Cell]:
    """Return a cell of each recipe among cells that has a learning rate, and is not skipped."""
    from harness import matrix

    found = []
    for cell in cells:
        topic = topics[cell.topic]
        plain = Cell(cell.topic, cell.model, cell.loss, cell.schedule)
        if cell.model not in topic.fits and matrix.skip_reason(topic, plain) is None:
            found.append(plain)
    return list(dict.fromkeys(found))


def matching(cells: Iterable[Cell], expression: str | None) -> list[Cell]:
    """Return the cells whose ids an expression matches, as pytest's ``-k`` does; None: all.

    Raises UsageError for what is no expression.
    """
    from _pytest.mark.expression import Expression  # pytest's own parser, which it does not export

    if expression is None:
        return list(cells)
    try:
        parsed = Expression.compile(expression)
    except SyntaxError as error:
        raise UsageError(f"-k {expression!r}: {error.msg}") from None
    return [
        cell
        for cell in cells
        if parsed.evaluate(lambda name, /, **_: name.lower() in cell.id.lower())  # noqa: B023
    ]
