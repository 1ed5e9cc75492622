"""Train a selection of cells from a script or a notebook."""

from __future__ import annotations

import inspect
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any

from harness import asked, fingerprint, project, sources, typed
from harness.api.results import Results
from harness.axes import registry
from harness.axes.losses import Loss
from harness.axes.optimizers import Optimizer
from harness.axes.parallel import Parallel
from harness.axes.schedules import Schedule
from harness.cell import Cell, UsageError, unknown
from harness.commands.tune import matching
from harness.execution import process
from harness.interrupts import end_as_by_ctrl_c
from harness.options import RunOptions
from harness.results.record import Record
from harness.results.report import write_report
from harness.runs import Run
from harness.screen import Console
from harness.settings import Settings
from harness.topics.registry import registered_topics, with_own
from harness.topics.supervised import data
from harness.training.topic import Topic
from harness.trial.device import VISIBLE, visible

Selected = str | Iterable[Cell | str]


def run(
    topics: Topic | str | Iterable[Topic | str] | None = None,
    profile: str = "quick",
    *,
    folder: str | PathLike[str] | None = None,
    select: Selected | None = None,
    models: Sequence[str] | None = None,
    losses: Sequence[str | Loss] | None = None,
    schedules: Sequence[str | Schedule | Optimizer] | None = None,
    parallel: Sequence[str | Parallel] | None = None,
    precisions: Sequence[str] | None = None,
    seeds: int | Sequence[int] | None = None,
    settings: Mapping[str, object] | None = None,
    minutes: int | None = None,
    world_size: int = 2,
    accumulate: int = 1,
    rerun: bool = False,
    retries: int = 0,
    executor: str = "local",
    compile: bool = False,
    timeout: int | None = None,
    device: str | None = None,
    per_gpu: int = 1,
    rates: str | PathLike[str] | None = None,
    sinks: Sequence[Callable[[Record, Run], None]] = (),
) -> Results:
    """Train cells, write their records, tables and page to a folder, and return the results.

    topics: instances of your own, also of a class that the script or notebook defines, and names of
    installed ones or of the project's conftests; None: all that are installed. profile: how much,
    as ``pytest --profile``; the folder is ``results/PROFILE`` unless said. models, losses,
    schedules, parallel, precisions: instead of the profile's design, every combination of these
    values, with the topic's recipe for an axis that is not given; instances of your own losses,
    schedules, optimizers and parallel configurations stand beside names. seeds: how many, or which.
    settings: of topics and their budgets, ``{"mine.steps": 500}``; a list is swept, a tuple is a
    value. select: of these cells, those whose ids an expression matches as pytest's ``-k`` does; or
    the cells themselves. minutes: that a race may take. sinks: called with each record and the run,
    such as ``harness.sinks.tensorboard.write``. All else is as on pytest's command line.

    Progress is printed as it goes. What is done already is reused. After Ctrl-C the records of all
    cells that have ended are there, and the same call goes on from them. Workers get the classes of
    the script or notebook by value: it is not run again, and needs no
    ``if __name__ == "__main__"``. Raises UsageError for bad input.
    """
    if process.AT_WORK.is_set() or multiprocessing.current_process().daemon:
        raise UsageError(
            "harness.run is called in a worker process, by a module that it imports: call it under "
            'if __name__ == "__main__"'
        )
    seeds = int(seeds) if isinstance(seeds, Integral) else seeds
    _refuse(
        {"models": models, "losses": losses, "schedules": schedules, "parallel": parallel}
        | {"precisions": precisions, "seeds": None if isinstance(seeds, int) else seeds}
        | {"sinks": sinks, "select": None if isinstance(select, str) else select},
        settings,
    )
    sinks = [*sinks]
    for sink in sinks:
        if not callable(sink):
            raise UsageError(f"sinks: {sink!r} cannot be called with a record and the run")
    chosen = RunOptions(
        profile=profile,
        run_dir=None if folder is None else str(folder),
        world_size=world_size,
        accumulate=accumulate,
        rerun=rerun,
        retries=retries,
        seeds=seeds if isinstance(seeds, int | None) else len(seeds),
        minutes=minutes,
        executor=executor,
        compile=compile,
        timeout=timeout,
        device=device,
        per_gpu=per_gpu,
        rates=None if rates is None else str(rates),
    )
    told = {"model": models, "loss": losses, "schedule": schedules, "parallel": parallel}
    told |= {"precision": precisions}
    axes: dict[str, Any] = {axis: values for axis, values in told.items() if values is not None}
    own = _own_values(losses=losses, schedules=schedules, parallel=parallel)
    data.forget()
    fingerprint.forget()
    with registry.having(()), visible(os.environ.get(VISIBLE)):  # device cpu hides GPUs
        registry.installed()
        several, known = _known(topics)
        with registry.having(own):
            found = _topics(several, known)
            run, cells = _run_of(chosen, found, axes, seeds, settings or {}, select)
            run.own, run.sinks = [*run.own, *(value.name for _, value in own)], sinks
            _train(run, cells, minutes)
            return Results(run.folder, run.topics, registry.own())


def _refuse(several: Mapping[str, Any], settings: Any) -> None:
    """Raise UsageError for an argument that is to be a list or a dict, and is none."""
    for name, values in several.items():
        if values is not None and (isinstance(values, str) or not isinstance(values, Iterable)):
            raise UsageError(f"{name}: {values!r} is given for a list: write [{values!r}]")
    if settings is not None and not isinstance(settings, Mapping):
        raise UsageError(f"settings: {settings!r} is no dict, such as {{'mine.steps': 500}}")


def _own_values(**axes: Sequence[Any] | None) -> list[tuple[str, Any]]:
    """Return the values given to axes that are no names, with the axis of each."""
    own = [(axis, one) for axis, some in axes.items() for one in some or () if type(one) is not str]
    return [("optimizers" if isinstance(one, Optimizer) else axis, one) for axis, one in own]


def _run_of(
    chosen: RunOptions,
    topics: Mapping[str, Topic],
    axes: Mapping[str, Sequence[Any]],
    seeds: int | Sequence[int] | None,
    settings: Mapping[str, object],
    select: Selected | None,
) -> tuple[Run, list[Cell]]:
    """Make the run, and return it with the cells that it is to train."""
    names = {axis: ",".join(map(_name, values)) for axis, values in axes.items()}
    given = Settings.of([(name, _texts(value)) for name, value in settings.items()], topics)
    where = Path(chosen.run_dir or Path("results") / chosen.profile)
    if isinstance(seeds, int):
        asked.refuse_seeds(chosen.profile, seeds)
    run, designed = asked.run_of(chosen, topics, where, given, names)
    cells = [cell for own in designed.values() for cell in own]
    if seeds is not None and not isinstance(seeds, int):
        recipes = dict.fromkeys(replace(cell, seed=0) for cell in cells)
        cells = [replace(cell, seed=seed) for cell in recipes for seed in seeds]
    cells = _selected(cells, select)
    if chosen.profile == "race" and any(cell.seed for cell in cells):
        raise UsageError("select: the cells of a race are of seed 0, it takes further ones itself")
    for cell in cells:
        if cell.topic not in topics:
            raise unknown("topic", cell.topic, topics)
    asked.prepare(run, cells)
    for cell in cells:
        run.skip_reason(cell)
    installed = registered_topics()
    run.own = [name for name, topic in topics.items() if topic != installed.get(name)]
    return run, cells


def _name(value: Any) -> str:
    """Return the name of an axis' value, which may be given by it."""
    return value if isinstance(value, str) else str(value.name)


def _texts(value: object) -> list[str]:
    """Return a setting's value, or the values of a sweep, as a command line has them."""
    return [typed.written(one) for one in (value if isinstance(value, list) else [value])]


def _known(
    told: Topic | str | Iterable[Topic | str] | None,
) -> tuple[list[Topic | str], dict[str, Topic]]:
    """Return what is told as a list, and by name the topics that are installed or the project's.

    The project's conftests are loaded, with what they bring to the axes, if a name is not that of
    an installed topic.
    """
    known = registered_topics()
    if told is None:
        return [*known], known
    several = [told] if isinstance(told, str | Topic | type) else list(told)
    if any(isinstance(one, str) and one not in known for one in several):
        known = project.topics_of(())
    return several, known


def _topics(several: Sequence[Topic | str], known: Mapping[str, Topic]) -> dict[str, Topic]:
    """Return topics by name, with nothing that they have seen of their data in an earlier run.

    Raises UsageError for what is none, or a name that none has.
    """
    names = [one for one in several if isinstance(one, str)]
    for name in names:
        if name not in known:
            raise unknown("topic", name, known)
    return with_own(
        {name: _anew(known[name]) for name in names},
        [[_anew(one) for one in several if not isinstance(one, str)]],
    )


def _anew(topic: Topic) -> Topic:
    """Return a topic without cached properties: what it has looked at may have changed since."""
    names = vars(topic) if isinstance(topic, Topic) else ()
    cached = (inspect.getattr_static(type(topic), name, None) for name in names)
    return replace(topic) if any(isinstance(one, cached_property) for one in cached) else topic


def _selected(cells: list[Cell], select: Selected | None) -> list[Cell]:
    """Return the cells that are to run. Raises UsageError if that is none."""
    if select is None or isinstance(select, str):
        found = matching(cells, select)
    else:
        found = [Cell.parse(one) if isinstance(one, str) else one for one in select]
    if not found:
        raise UsageError(f"no cell is selected: {select!r} matches none of {len(cells)}")
    return list(dict.fromkeys(found))


def _train(run: Run, cells: list[Cell], minutes: int | None) -> None:
    """Train cells and write the tables and the page, also of what is done when it is broken off."""
    console = Console(run)
    with ExitStack() as ending:
        end_as_by_ctrl_c(ending.callback)
        try:
            for name in _in_no_file(run.topics.values()):
                console.line(f"{name} is written in no file: only this session reuses its cells")
            if run.profile == "race":
                from harness import race  # scipy.stats takes a second

                race.hold(run, cells, minutes or 0)
            else:
                console.line(run.start(cells))
                run.finish()
        except KeyboardInterrupt:
            console.line(
                f"interrupted: {len(run.records)} of {len(cells)} cells are kept in {run.folder}; "
                "the same call goes on from them"
            )
            raise
        finally:
            run.end()
            console.clear()
            try:
                if run.records:
                    _report(run.folder, console.line)
            finally:
                run.close()


def _in_no_file(topics: Iterable[Topic]) -> Iterator[str]:
    """Yield the names of topics and of values brought to axes that a notebook or prompt defines."""
    for topic in topics:
        if not all(map(sources.has_file, (type(topic), *topic.depends_on()))):
            yield topic.name
    yield from (value.name for value in registry.own() if not sources.has_file(type(value)))


def _report(folder: Path, said: Callable[[str], None]) -> None:
    """Write a run's tables and page, and say where, or why there is none."""
    try:
        said(f"see {write_report(folder, said)}")
    except (OSError, UsageError) as error:
        said(f"no page was written: {error}")
