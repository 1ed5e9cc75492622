"""The command line, ``decathlon`` or ``python -m harness``: bad input is one line, exit code 2."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from harness import options
from harness.cell import UsageError
from harness.commands import check, export, folders, one_cell, run, trained, tune
from harness.results import verdict
from harness.topics.options import TOPIC_OPTIONS

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
        options.add(command.add_argument, [options.RunOptions], one_cell.OPTIONS)
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
        does = {"report": folders.report, "compare": folders.compare}
        does |= {"replay": one_cell.replay, "train": one_cell.train}
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
