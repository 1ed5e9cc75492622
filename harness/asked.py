"""Make the run that is asked for: by a pytest call's options and its project's topics, or else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import chosen as by_axis
from harness import matrix, options, project
from harness.cell import Cell, UsageError
from harness.execution.kinds import executor_class
from harness.pyproject import Configured
from harness.runs import Run
from harness.settings import Settings, of_text
from harness.topics.options import TOPIC_OPTIONS
from harness.topics.registry import installed_topics, with_own
from harness.training.topic import Topic
from harness.trial import device

# paths whose conftests count, where others are collected
PROJECT: pytest.StashKey[list[str]] = pytest.StashKey()
# folders that were named, and the names of the topics that their conftests give
FOLDERS: pytest.StashKey[list[Path]] = pytest.StashKey()
GIVEN: pytest.StashKey[set[str]] = pytest.StashKey()


def make(
    config: pytest.Config,
    chosen: options.RunOptions,
    configured: Configured,
    said: list[str],
    dest: str,
) -> tuple[Run, dict[str, list[Cell]]]:
    """Return the run, and its profile's cells by topic.

    configured: what the project sets by itself. said: takes lines for the end of pytest's output.
    dest: before the names of our options among pytest's. Raises UsageError for bad input.
    """
    if hasattr(config, "workerinput"):
        raise UsageError(
            "cells run in processes of their own already, and each of pytest-xdist's workers "
            "would train them all: leave -n out"
        )
    refuse_seeds(chosen.profile, chosen.seeds)
    told = options.given(config.option, TOPIC_OPTIONS, dest)
    said += project.bring(config.hook)
    installed, broken = installed_topics(**told)
    said += broken
    inside, outside = _own(config)
    config.stash[GIVEN] = {*with_own({}, inside)}
    topics = with_own(installed, [*inside, *outside])
    texts = options.given(config.option, [options.SettingOptions], dest).get("set", [])
    settings = Settings.of([*configured.settings, *map(of_text, texts)], topics)
    told.pop("download", None)
    return run_of(
        chosen,
        topics,
        Path(chosen.run_dir or config.rootpath / "results" / chosen.profile),
        settings,
        options.given(config.option, [options.AxisOptions], dest),
        told=told,
        defaults=configured.options,
        paths=[path.split("::")[0] for path in config.stash.get(PROJECT, config.args)],
    )


def _own(config: pytest.Config) -> tuple[list[Any], list[Any]]:
    """Return what the conftests in FOLDERS and below return as topics, and what all others do."""
    folders = [folder.resolve() for folder in config.stash.get(FOLDERS, [])]
    every = config.pluginmanager.get_plugins()
    files = {one: Path(getattr(one, "__file__", None) or "") for one in every}
    conftests = {one: file.resolve() for one, file in files.items() if file.name == "conftest.py"}
    inside = {one for one, file in conftests.items() if any(map(file.is_relative_to, folders))}
    ask, name = config.pluginmanager.subset_hook_caller, "pytest_decathlon_topics"
    return ask(name, every - inside)(), ask(name, inside)()


def refuse_seeds(profile: str, seeds: int | None) -> None:
    """Raise UsageError for several seeds of smoke, which has one of each cell."""
    if profile == "smoke" and seeds not in (None, 1):
        raise UsageError(f"seeds {seeds} is for --profile quick or full: smoke has one")


def run_of(
    chosen: options.RunOptions,
    topics: Mapping[str, Topic],
    folder: Path,
    settings: Settings,
    axes: Mapping[str, str],
    told: Mapping[str, object] | None = None,
    defaults: Mapping[str, object] | None = None,
    paths: Sequence[str] = (),
) -> tuple[Run, dict[str, list[Cell]]]:
    """Return a run of topics in a folder, and its profile's cells by topic.

    settings: of these topics, not applied yet. axes: the values chosen, as ``chosen.select`` takes
    them. told: the options of topics' data; defaults: the project's own of run options; paths:
    what pytest was told to collect. Raises UsageError for bad input.
    """
    repeated = {**(told or {}), **options.repeated(chosen, defaults or ())}
    topics = settings.applied(topics)
    if chosen.compile and chosen.executor == "ray":
        raise UsageError("compile is for populations, which --executor ray does not make")
    executor_class(chosen.executor, chosen.per_gpu)
    if chosen.profile == "race" and chosen.minutes is None:
        raise UsageError("a race needs to know how long it may take: --minutes M")
    if chosen.profile != "race" and chosen.minutes is not None:
        raise UsageError(f"minutes {chosen.minutes} is for --profile race")
    devices = device.gpus(device.choose(chosen.device))
    if chosen.executor == "ray" and devices < 2:
        devices = 0  # a rank's GPU may be another machine's
    cells = matrix.select(
        topics,
        chosen.profile,
        devices=devices,
        seeds=chosen.seeds,
        world_size=chosen.world_size,
        beside=device.beside(chosen.device, chosen.executor),
    )
    if axes:
        cells = by_axis.select(topics, chosen.profile, axes, chosen.seeds)
    cells = {name: settings.cells(some) for name, some in cells.items()}
    for topic in topics.values():
        if any(hasattr(topic, name) for name in told or ()):
            topic.prepare()  # what an option names must be there, whichever cells are selected
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"run folder {folder} is a file")
    run = Run(
        folder,
        topics,
        chosen.profile,
        chosen.world_size,
        rerun=chosen.rerun,
        accumulate=chosen.accumulate,
        retries=chosen.retries,
        options=options.arguments(repeated),
        project=paths,
        executor_kind=chosen.executor,
        timeout=chosen.timeout,
        device=chosen.device or "",
        per_gpu=chosen.per_gpu,
        compile=chosen.compile,
        rates=project.rates_of(topics, chosen.profile, chosen.rates, settings),
        settings=settings,
    )
    return run, cells


def prepare(run: Run, cells: Iterable[Cell]) -> None:
    """Raise UsageError for data, models or settings of cells that cannot be trained.

    Topics without a cell among them are not looked at: theirs may be broken.
    """
    alike = {(cell.topic, cell.settings): cell for cell in cells}
    for name in dict.fromkeys(name for name, _ in alike):
        run.topics[name].prepare()
    for cell in alike.values():
        run.topic(cell).dataset_id()
        run.budget(cell)
