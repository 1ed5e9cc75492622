"""``python -m harness``: report, compare, replay, train, evaluate, sample.

Bad input: one line, exit code 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import options
from harness.cell import Cell, UsageError, unknown
from harness.options import REPEATED
from harness.results import verdict
from harness.topics.options import TOPIC_OPTIONS

if TYPE_CHECKING:
    from harness.run import Run
    from harness.training.topic import Topic


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m harness`` with these arguments (None: the process's); return exit code."""
    parser = argparse.ArgumentParser("python -m harness", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
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
        options.add(command.add_argument, [options.RunOptions], ("profile", "run_dir", *REPEATED))
        options.add(command.add_argument, TOPIC_OPTIONS)
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
    chosen = parser.parse_args(arguments)
    try:
        run = {"report": _report, "compare": _compare, "replay": _replay, "train": _train}
        return (run | {"evaluate": _evaluate, "sample": _sample})[chosen.command](chosen)
    except (UsageError, OSError) as error:
        print(f"decathlon: {error}", file=sys.stderr)
        return 2


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
    from harness.results import bounds, compare, frames
    from harness.results.compare import text

    if chosen.json and (chosen.json.suffix != ".json" or chosen.json.is_dir()):
        raise UsageError(f"--json {chosen.json} must be a file whose name ends in .json")
    folders = (chosen.baseline, chosen.candidate)
    runs = []
    for folder in folders:
        run, unread = frames.read(folder)
        runs.append(run)
        for line in bounds.cut(unread):
            print(f"decathlon: {line}", file=sys.stderr)
    try:
        comparison = compare.compare(*runs)
    except compare.NotComparable as error:
        comparison = compare.Comparison(refused=str(error))
    if chosen.json:
        text.write_json(chosen.json, comparison, *folders)
    if comparison.refused:
        raise UsageError(comparison.refused)
    print(bounds.printable("\n".join(text.lines(comparison))))
    return comparison.exit_code


def _folder(chosen: argparse.Namespace) -> Path:
    """Return the folder of the run that the command is about."""
    told = options.RunOptions(**options.given(chosen, [options.RunOptions]))
    return Path(told.run_dir or Path("results") / told.profile)


def _run_of(chosen: argparse.Namespace, folder: Path) -> tuple[Run, Cell]:
    """Make a run in ``folder`` for the chosen cell. Raises UsageError if that cannot be trained."""
    from harness import matrix, project
    from harness.run import Run

    cell = Cell.parse(chosen.cell)
    told = options.RunOptions(**options.given(chosen, [options.RunOptions]))
    topics = project.topics(_folder(chosen), **options.given(chosen, TOPIC_OPTIONS))
    if cell.topic not in topics:
        raise unknown("topic", cell.topic, topics)
    if told.profile not in matrix.PROFILES:
        raise unknown("profile", told.profile, matrix.PROFILES)
    run = Run(folder, topics, told.profile, told.world_size, accumulate=told.accumulate)
    if reason := run.skip_reason(cell):
        raise UsageError(f"{cell.id} is skipped: {reason}")
    return run, cell


def _replay(chosen: argparse.Namespace) -> int:
    """Train a cell again, apart from its run; return 1 if its record's numbers do not come back."""
    from harness.results.store import Store

    kept = _folder(chosen)
    with tempfile.TemporaryDirectory() as scratch:
        run, cell = _run_of(chosen, Path(scratch))
        old = Store(kept).read(cell)
        run.start([cell])
        try:
            new = run.result(cell)
        finally:
            run.close()
    print({"status": str(new.status), **new.metrics})
    if old is None:
        print(f"{kept} has no record of it to compare with")
        return 0
    if old.fingerprint != new.fingerprint:
        print("not the same experiment: its budget, data, code or versions changed since")
        return 1
    if old.population != new.population:
        from harness.training.agreement import AGREE, TOLERANCE, difference

        apart = difference(old.curve, new.curve)
        print(
            f"it trained in a population of {old.population}: up to step {AGREE} losses differ by "
            f"{apart:.1g} at most, {TOLERANCE:g} is allowed; its metrics were {old.metrics}"
        )
        return 0 if apart <= TOLERANCE else 1
    same = (old.metrics, old.curve) == (new.metrics, new.curve)
    print("the same numbers, bit for bit" if same else f"other numbers than {old.metrics}")
    return 0 if same else 1


def _train(chosen: argparse.Namespace) -> int:
    """Train a cell as one of torchrun's ranks; rank 0 keeps and prints its record."""
    from harness.axes import parallel
    from harness.execution import torchrun

    ranks, cell = torchrun.ranks(), Cell.parse(chosen.cell)
    if ranks is None or not parallel.is_distributed(cell.parallel):
        raise UsageError(
            "train is for a parallel cell under torchrun: torchrun --nproc-per-node 2 "
            "-m harness train vgg/vgg11-ce-one_cycle-ddp-s0"
        )
    chosen.world_size = ranks
    run, cell = _run_of(chosen, _folder(chosen))
    if outcome := torchrun.train(run.task(cell)):
        record = run.keep(cell, outcome)
        print({"status": str(record.status), **record.metrics})
    return 0


def _evaluate(chosen: argparse.Namespace) -> int:
    """Print the metrics of a cell's final checkpoint, under the settings it was trained with."""
    from harness import project
    from harness.results.store import Store

    store, cell = Store(_folder(chosen)), Cell.parse(chosen.cell)
    topics = project.topics(store.folder)
    tree, topic = _trained(topics, store.checkpoint(cell, "final"), cell, chosen)
    record = store.read(cell)
    if record and record.dataset != topic.dataset_id():
        raise UsageError(
            f"{cell.id} was trained on {record.dataset}, and this is {topic.dataset_id()}: "
            "say where the data of then is"
        )
    for name, value in topic.evaluate(_networks(tree, topic, cell), cell).items():
        print(f"{name} {value:.6g}" if isinstance(value, int | float) else f"{name} {value}")
    return 0


def _trained(
    topics: Mapping[str, Topic], path: Path, cell: Cell | None, chosen: argparse.Namespace
) -> tuple[dict[str, Any], Topic]:
    """Read a checkpoint; return its tree, and its topic as it was set when it was trained.

    cell: whose it must be, None for any. chosen: a command line that may say where data is now.
    Raises UsageError for what is no checkpoint of such a cell.
    """
    from harness import checkpoint

    try:
        tree = checkpoint.load(path)
    except checkpoint.CheckpointError as error:
        raise UsageError(str(error)) from None
    if not isinstance(tree.get("cell"), str) or not isinstance(tree.get("topic"), dict):
        raise UsageError(f"{path} says neither its cell nor its settings: it is of no cell")
    if cell is not None and tree["cell"] != cell.id:
        raise UsageError(f"{path} is of {tree['cell']}, not of {cell.id}")
    name = Cell.parse(tree["cell"]).topic
    if name not in topics:
        raise unknown("topic", name, topics)
    topic, settings = topics[name], dict(tree["topic"])
    fields = {field.name for field in dataclasses.fields(topic)}
    if set(settings) != fields:
        odd = ", ".join(sorted(set(settings) ^ fields))
        raise UsageError(f"{path} was trained by another version of {name}: {odd} is no setting")
    settings |= {k: v for k, v in options.given(chosen, TOPIC_OPTIONS).items() if k in fields}
    return tree, dataclasses.replace(topic, **settings)


def _networks(tree: dict[str, Any], topic: Topic, cell: Cell) -> dict[str, Any]:
    """Return the trained networks of a checkpoint's tree. Raises UsageError if they do not fit."""
    from harness import checkpoint
    from harness.checkpoint import estimators

    try:
        if cell.model in topic.fits:
            return {"model": estimators.loads(tree["estimator"])}
        networks = topic.networks(cell)
        for name, network in networks.items():
            checkpoint.load_network(network.eval(), tree["networks"][name])
    except (checkpoint.CheckpointError, KeyError) as error:
        raise UsageError(f"the checkpoint of {cell.id} does not fit: {error}") from None
    return networks


def _sample(chosen: argparse.Namespace) -> int:
    """Write images that the generator of a checkpoint makes to a PNG."""
    import torch

    from harness import project
    from harness.trial import samples

    if chosen.count < 1:
        raise UsageError(f"count {chosen.count} is no number of images: 1 or more")
    if chosen.out.suffix != ".png":
        raise UsageError(f"{chosen.out} must end in .png")
    # a run keeps its checkpoints as checkpoints/TOPIC/CELL/NAME.pt
    topics = project.topics(chosen.checkpoint.absolute().parent.parent.parent.parent)
    tree, topic = _trained(topics, chosen.checkpoint, None, chosen)
    cell = Cell.parse(tree["cell"])
    if not topic.generates:
        makers = sorted(name for name, other in topics.items() if other.generates)
        raise UsageError(
            f"{chosen.checkpoint} is of {cell.topic}, which makes no images: "
            f"choose one of {', '.join(makers)}"
        )
    noise = torch.Generator().manual_seed(chosen.seed)
    networks = _networks(tree, topic, cell)
    samples.save_grid(chosen.out, topic.sample(networks, cell, chosen.count, noise))
    print(chosen.out)
    return 0
