"""The command line, ``decathlon`` or ``python -m harness``: bad input is one line, exit code 2."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from harness import options
from harness.cell import Cell, UsageError, unknown
from harness.commands import check, export, run, trained, tune
from harness.options import REPEATED
from harness.results import verdict
from harness.topics.options import TOPIC_OPTIONS

if TYPE_CHECKING:
    from harness.runs import Run
    from harness.settings import Given

OF_CELL = ("profile", "run_dir", *REPEATED)  # the run options of commands on one cell

FIRST = """\
Which loss, learning-rate schedule and parallel configuration for a model, at what cost on this
machine, and does its checkpoint come back? First steps, in any folder:

  decathlon run --profile smoke -k vgg   train a built-in topic, in seconds: tables and a page
  decathlon check mine                   does your own training keep what it promises?
  decathlon run -k mine                  train it, from the conftest.py of this folder
  decathlon run --profile race --minutes 30 -k mine    which recipes are best? a race
  decathlon COMMAND --help               what a command takes
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``decathlon`` with these arguments (None: the process's); return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        "decathlon", description=FIRST, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=version("torch-decathlon"))
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    commands.add_parser("run", help="train cells by pytest; leaves records, tables and a page")
    report = commands.add_parser("report", help="write a run's tables and page again")
    report.add_argument("run", type=Path)
    compare = commands.add_parser(
        "compare",
        help="one verdict over two runs; exit code 1 if worse",
        description="Compare two runs' folders, which hold records or only tables of cells.",
        epilog=verdict.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.add_argument("baseline", type=Path)
    compare.add_argument("candidate", type=Path)
    compare.add_argument(
        "--json", type=Path, metavar="FILE.json", help="write the whole comparison there too"
    )
    for name, text in (
        ("replay", "train one cell again: did its numbers come back?"),
        ("train", "train one cell over the ranks that torchrun started, on one node or more"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("cell")
        options.add(command.add_argument, [options.RunOptions], OF_CELL)
        options.add(command.add_argument, [options.SettingOptions, *TOPIC_OPTIONS])
    places = options.places(TOPIC_OPTIONS)
    evaluate = commands.add_parser("evaluate", help="evaluate a cell's final checkpoint")
    evaluate.add_argument("cell")
    options.add(evaluate.add_argument, [options.RunOptions], ("profile", "run_dir"))
    options.add(evaluate.add_argument, TOPIC_OPTIONS, places)
    sample = commands.add_parser("sample", help="images from a generator's checkpoint")
    sample.add_argument("checkpoint", type=Path)
    sample.add_argument("--count", type=int, default=64)
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    options.add(sample.add_argument, TOPIC_OPTIONS, places)
    export.add(
        commands.add_parser(
            "export", help="a trained network as .safetensors", description=export.__doc__
        )
    )
    search = commands.add_parser(
        "tune", help="find the learning rate that serves each recipe", description=tune.__doc__
    )
    tune.add(search)
    checked = commands.add_parser(
        "check", help="does a training keep what it promises?", description=check.__doc__
    )
    check.add(checked)
    try:
        if arguments[:1] == ["run"]:  # the rest is for pytest to read
            return run.run(arguments[1:])
        chosen = parser.parse_args(arguments)
        if chosen.command is None:
            parser.print_help()
            return 0
        does = {"report": _report, "compare": _compare, "replay": _replay, "train": _train}
        does |= {"evaluate": trained.evaluate, "sample": trained.sample, "tune": tune.run}
        does |= {"check": check.run, "export": export.run}
        code = does[chosen.command](chosen)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("decathlon: interrupted", file=sys.stderr)
        return 2
    except (UsageError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _is_unread():
            return 128 + signal.SIGPIPE  # as a shell says of any command whose reader goes away
        print(f"decathlon: {error}", file=sys.stderr)
        return 2


def _is_unread() -> bool:
    """Whether the output's reader has gone away; what is left to write then goes nowhere."""
    try:
        out = sys.stdout.fileno()
    except (OSError, ValueError):  # it is no file
        return False
    watched = select.poll()
    watched.register(out, 0)  # errors are told all the same
    if not watched.poll(0):
        return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, out)  # Python writes what it holds when it ends
    os.close(nowhere)
    return True


def _report(chosen: argparse.Namespace) -> int:
    """Write a run's tables and page again, and print the page's path and what was damaged."""
    from harness.results import bounds
    from harness.results.report import write_report

    try:
        page = write_report(chosen.run, lambda line: print(f"decathlon: {line}", file=sys.stderr))
    except OSError as error:
        raise UsageError(f"{chosen.run} cannot be written to: {error.strerror}") from None
    print(bounds.printable(str(page)))
    return 0


def _compare(chosen: argparse.Namespace) -> int:
    """Print how two runs compare, write it as JSON if asked to, and return the exit code."""
    from harness.results import bounds, compare
    from harness.results.compare import text

    if chosen.json and (chosen.json.suffix != ".json" or chosen.json.is_dir()):
        raise UsageError(f"--json {chosen.json} must be a file whose name ends in .json")
    folders = (chosen.baseline, chosen.candidate)
    comparison, unread = compare.of_folders(*folders)
    for line in bounds.cut(unread):
        print(f"decathlon: {line}", file=sys.stderr)
    if chosen.json:
        text.write_json(chosen.json, comparison, *folders)
    if comparison.refused:
        raise UsageError(comparison.refused)
    print(bounds.printable("\n".join(text.lines(comparison))))
    return comparison.exit_code


def _run_of(
    chosen: argparse.Namespace,
    configured: list[Given],
    folder: Path | None = None,
    executor_kind: str = "local",
) -> tuple[Run, Cell]:
    """Make a run for the chosen cell in ``folder``, by default that of its own run.

    configured: the project's settings. Raises UsageError if the cell cannot be trained.
    """
    from harness import matrix, project
    from harness.runs import Run

    cell = Cell.parse(chosen.cell)
    told = options.RunOptions(**options.given(chosen, [options.RunOptions]))
    data = options.given(chosen, TOPIC_OPTIONS)
    topics = project.topics(options.run_folder(chosen), **data)
    own = [(f"{cell.topic}.{name}", [text]) for name, text in cell.settings]
    settings = project.settings_of(chosen, [*configured, *own], topics)
    topics = settings.applied(topics)
    if cell.topic not in topics:
        raise unknown("topic", cell.topic, topics)
    if told.profile not in matrix.PROFILES:
        raise unknown("profile", told.profile, matrix.PROFILES)
    rates = project.rates_of(topics, told.profile, told.rates, settings)
    run = Run(
        folder or options.run_folder(chosen),
        topics,
        told.profile,
        told.world_size,
        accumulate=told.accumulate,
        rates=rates,
        settings=settings,
        options=options.arguments(data | options.repeated(told)),
        device=told.device or "",
        executor_kind=executor_kind,
    )
    if reason := run.skip_reason(cell):
        raise UsageError(f"{cell.id} is skipped: {reason}")
    return run, cell


def _replay(chosen: argparse.Namespace) -> int:
    """Train a cell again, apart from its run; return 1 if its record's numbers do not come back."""
    from harness import project
    from harness.results.record import TRAINED
    from harness.results.store import Store
    from harness.trial.outcome import same_numbers

    configured = project.configure(chosen, OF_CELL)
    kept = options.run_folder(chosen)
    with tempfile.TemporaryDirectory() as scratch:
        run, cell = _run_of(chosen, configured, Path(scratch))
        old = Store(kept).read(cell)
        run.start([cell])
        try:
            new = run.result(cell)
        finally:
            run.close()
        steps = run.topics[cell.topic].agrees
        curves: Sequence[Mapping[str, list[float]]] = ()
        if old is not None and old.population != new.population:
            from harness.training import agreement

            paths = [store.checkpoint(cell, "middle") for store in (Store(kept), run.store)]
            curves = agreement.first_steps([old.curve, new.curve], paths, steps)
    print({"status": str(new.status), **new.metrics})
    if new.status not in TRAINED:
        print(new.traceback or new.reason)
        return 1
    if old is None:
        print(f"{kept} has no record of it to compare with")
        return 0
    if old.fingerprint != new.fingerprint:
        print("not the same experiment: its budget, data, code or versions changed since")
        return 1
    if unlike := list(dict.fromkeys([*old.unrepeatable, *new.unrepeatable])):
        print(
            f"it cannot come back bit for bit on this GPU: {', '.join(unlike)} has no repeatable "
            f"form; its metrics were {old.metrics}"
        )
        return 0
    if old.population != new.population:
        said = f"it trained in a population of {old.population}: "
        if not curves:
            print(f"{said}a checkpoint is gone, so its first losses cannot be compared")
            return 0
        apart = agreement.difference(curves[0], curves[1], steps)
        print(
            f"{said}up to step {steps} losses differ by {apart:.1g} at most, "
            f"{agreement.TOLERANCE:g} is allowed; its metrics were {old.metrics}"
        )
        return 0 if apart <= agreement.TOLERANCE else 1
    same = old.status == new.status and all(
        same_numbers(one, other)
        for one, other in ((old.metrics, new.metrics), (old.curve, new.curve))
    )
    print("the same numbers, bit for bit" if same else f"other numbers than {old.metrics}")
    return 0 if same else 1


def _train(chosen: argparse.Namespace) -> int:
    """Train a cell as one of torchrun's ranks; rank 0 keeps and prints its record."""
    from harness import project
    from harness.axes import parallel
    from harness.execution import torchrun

    ranks, cell = torchrun.ranks(), Cell.parse(chosen.cell)
    if ranks is None or not parallel.is_distributed(cell.parallel):
        raise UsageError(
            "train is for a parallel cell under torchrun: torchrun --nproc-per-node 2 "
            "-m harness train vgg/vgg11-ce-one_cycle-ddp-s0"
        )
    configured = project.configure(chosen, OF_CELL)
    chosen.world_size = ranks
    run, cell = _run_of(chosen, configured, executor_kind="torchrun")
    if torchrun.is_first():
        run.lock()
    outcome = torchrun.train(run.task(cell))
    if outcome is None:
        return 0
    record = run.keep(cell, outcome)
    run.close()
    print({"status": str(record.status), **record.metrics})
    try:
        record.check()
    except AssertionError as error:
        print(error)
        return 1
    return 0
