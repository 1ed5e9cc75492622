"""The pytest plugin ``decathlon``: makes a test item of each cell, with its record to assert on.

A test marked ``decathlon(topic="vgg")`` that takes the fixture ``record`` becomes one item a cell.
When collection is done the selected cells start; each item waits for its record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from harness import matrix, options
from harness.cell import Cell, UsageError, unknown
from harness.files import write_atomically
from harness.results.record import Record
from harness.results.report import write_report
from harness.run import Run, executor_class
from harness.screen import Screen
from harness.topics.options import TOPIC_OPTIONS
from harness.topics.registry import registered_topics

RUN = pytest.StashKey[Run]()
CELLS = pytest.StashKey[dict[str, list[Cell]]]()
SCREEN = pytest.StashKey[Screen]()


class Hooks:
    """The hooks that a conftest may implement."""

    @pytest.hookspec
    def pytest_decathlon_topics(self) -> list:
        """Return this project's topics (``harness.Topic``), to be added to the installed ones."""
        return []


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register the hooks that a conftest may implement."""
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command-line options of runs and of topics' data."""
    group = parser.getgroup("decathlon", "Decathlon: the experiment matrix")
    options.add(group.addoption, (options.RunOptions, *TOPIC_OPTIONS))
    group.addoption("--plan", action="store_true", help="show cells, skips and cost; run nothing")


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark ``decathlon``, which makes a test one item for each cell of a topic."""
    config.addinivalue_line("markers", "decathlon(topic): one item for each cell of the topic")


def _run(config: pytest.Config) -> Run:
    """Return this pytest call's run, made on first use. Raises pytest.UsageError for bad input."""
    if RUN not in config.stash:
        try:
            config.stash[RUN], config.stash[CELLS] = _make_run(config)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None
    return config.stash[RUN]


def _make_run(config: pytest.Config) -> tuple[Run, dict[str, list[Cell]]]:
    """Make the run that the options ask for; return it, and its profile's cells by topic."""
    chosen = options.RunOptions(**options.given(config.option, [options.RunOptions]))
    told = options.given(config.option, TOPIC_OPTIONS)
    topics = registered_topics(**told)
    for own in config.hook.pytest_decathlon_topics():
        topics |= {topic.name: topic for topic in own}
    executor_class(chosen.executor)
    devices = torch.cuda.device_count()
    cells = matrix.select(topics, chosen.profile, devices=devices, seeds=chosen.seeds)
    for topic in topics.values():
        topic.dataset_id()
    folder = Path(chosen.run_dir or config.rootpath / "results" / chosen.profile)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"run folder {folder} is a file")
    usual = options.RunOptions()
    told.pop("download", None)
    told |= {
        name: getattr(chosen, name)
        for name in options.REPEATED
        if getattr(chosen, name) != getattr(usual, name)
    }
    run = Run(
        folder,
        topics,
        chosen.profile,
        chosen.world_size,
        chosen.rerun,
        accumulate=chosen.accumulate,
        retries=chosen.retries,
        options=options.arguments(told),
        executor_kind=chosen.executor,
        compile=chosen.compile,
    )
    return run, cells


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one item of a marked test for each cell of its topic."""
    mark = metafunc.definition.get_closest_marker("decathlon")
    if mark is None or "record" not in metafunc.fixturenames:
        return
    run = _run(metafunc.config)
    name = mark.kwargs.get("topic") or (mark.args[0] if mark.args else "")
    if name not in run.topics:
        raise pytest.UsageError(str(unknown("topic", name, run.topics)))
    cells = metafunc.config.stash[CELLS].get(name, [])
    metafunc.parametrize("record", cells, ids=[cell.id for cell in cells], indirect=True)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """The cell's record: status, metrics, baseline, curve, cost, checkpoint, parity."""
    with _waiting(request.config) as run:
        found = run.result(request.param)
    if found.status == "skipped":
        pytest.skip(found.reason)
    return found


@pytest.fixture
def decathlon_run(request: pytest.FixtureRequest) -> Run:
    """The run of this pytest call, once all its cells have ended and the machine is free."""
    with _waiting(request.config) as run:
        run.finish()
    return run


@contextmanager
def _waiting(config: pytest.Config) -> Iterator[Run]:
    """Yield the run to a test that waits for it, then clear the run's progress from the screen."""
    try:
        yield _run(config)
    finally:
        if SCREEN in config.stash:
            config.stash[SCREEN].clear()


def _cells(session: pytest.Session) -> list[Cell]:
    """Return the cells of the session's selected items."""
    calls = (getattr(item, "callspec", None) for item in session.items)
    return [c.params["record"] for c in calls if c and isinstance(c.params.get("record"), Cell)]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the trainings of the selected cells; each item then waits for its record."""
    if session.config.option.collectonly or session.config.option.plan or session.testsfailed:
        return
    if cells := _cells(session):
        run = _run(session.config)
        session.config.stash[SCREEN] = Screen(session.config)
        session.config.stash[SCREEN].show(run)
        try:
            session.config.stash[SCREEN].line(run.start(cells))
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """With ``--plan``, print what would run and what it would cost, and run nothing."""
    if not session.config.option.plan:
        return None
    cells = list(dict.fromkeys(_cells(session)))
    run = _run(session.config)
    total = 0.0
    for cell in cells:
        if reason := run.skip_reason(cell):
            print(f"skip  {cell.id}: {reason}")
        elif run.done(cell):
            print(f"have  {cell.id}")
        else:
            ranks = 1 if cell.parallel == "single" else run.world_size
            total += run.predict(cell) * ranks
            print(f"train {cell.id}: about {run.predict(cell):.1f} s")
    print(f"{len(cells)} cells, about {total / (os.cpu_count() or 1) / 60:.1f} minutes to train")
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Close the run, and write its tables and page."""
    if RUN not in session.config.stash:
        return
    run = session.config.stash[RUN]
    run.close()
    if run.records:
        _write_benchmark(session.config, run.folder)
        write_report(run.folder)


def _write_benchmark(config: pytest.Config, folder: Path) -> None:
    """Write pytest-benchmark's own JSON into the folder, if a benchmark ran."""
    measured = getattr(config, "_benchmarksession", None)
    if measured is None or not measured.benchmarks:
        return
    body = config.hook.pytest_benchmark_generate_json(
        config=config,
        benchmarks=measured.benchmarks,
        include_data=False,
        machine_info=config.hook.pytest_benchmark_generate_machine_info(config=config),
        commit_info=config.hook.pytest_benchmark_generate_commit_info(config=config),
    )
    write_atomically(folder / "benchmark.json", json.dumps(body, indent=1, default=str).encode())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print where the run's page is, and which records could not be read."""
    config = terminalreporter.config
    if RUN in config.stash and config.stash[RUN].records:
        run = config.stash[RUN]
        for line in run.store.set_aside:
            terminalreporter.write_line(f"decathlon: {line}")
        terminalreporter.write_line(f"decathlon: see {run.folder / 'index.html'}")
