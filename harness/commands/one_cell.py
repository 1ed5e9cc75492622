"""Commands that train one cell: ``replay`` it, or share it over torchrun's ranks."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness import options
from harness.cell import REFUSED, Cell, UsageError, unknown
from harness.topics.options import TOPIC_OPTIONS

if TYPE_CHECKING:
    from harness.runs import Run
    from harness.settings import Given

OPTIONS = ("profile", "run_dir", *options.REPEATED)  # those of a run that these commands take


def replay(chosen: argparse.Namespace) -> int:
    """Train a cell again, apart from its run; return 1 if its record's numbers do not come back.

    Raises UsageError if the training is refused.
    """
    from harness import project
    from harness.results.record import TRAINED
    from harness.results.store import Store
    from harness.trial.outcome import same_numbers

    configured = project.configure(chosen, OPTIONS)
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
    if refused := REFUSED.match(new.reason):
        raise UsageError(new.reason[refused.end() :])
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


def train(chosen: argparse.Namespace) -> int:
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
    configured = project.configure(chosen, OPTIONS)
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
