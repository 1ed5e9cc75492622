"""The pytest plugin ``decathlon``: makes a test item of each cell, with its record to assert on.

A test marked ``decathlon(topic="vgg")`` that takes the fixture ``record`` becomes one item a cell;
marked ``decathlon`` alone, one for each cell of all topics that are not built in.
When collection is done the selected cells start; each item waits for its record.

Installed it is loaded in every project, so nothing that takes time is imported before a marked test
is collected.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pluggy
import pytest

from harness import hooks, options
from harness.cell import FAULTS, REFUSED, Cell, Status, UsageError, unknown
from harness.commands.run import OPTIONS, RECORDS, cell_of
from harness.files import write_atomically
from harness.interrupts import end_as_by_ctrl_c

if TYPE_CHECKING:
    from harness.pyproject import Configured
    from harness.results.record import Record
    from harness.runs import Run
    from harness.screen import Screen

pytest_plugins = ("harness.conformance.items",)

RUN: pytest.StashKey[Run] = pytest.StashKey()
CELLS: pytest.StashKey[dict[str, list[Cell]]] = pytest.StashKey()
SCREEN: pytest.StashKey[Screen] = pytest.StashKey()
SAID: pytest.StashKey[list[str]] = pytest.StashKey()  # lines for the end of pytest's output
DEST = "decathlon_"  # before the names of our values among pytest's


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register the hooks that a conftest may implement."""
    pluginmanager.add_hookspecs(hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of runs and of topics' data, as ``--decathlon-NAME``."""
    group = parser.getgroup("decathlon", "Decathlon: the experiment matrix")
    options.add(group.addoption, OPTIONS, prefix="decathlon-", dest=DEST)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None]:
    """Add each option as ``--NAME`` too, unless the project or another plugin has one so named.

    Raises pytest.UsageError where the value of one has led pytest away from the project's settings.
    """
    flags = {name: options.flag(name) for name in options.fields(OPTIONS)}
    kinds = options.fields(OPTIONS)
    valued = {flags[name] for name, field in kinds.items() if not isinstance(field.default, bool)}
    paths = early_config.known_args_namespace.file_or_dir
    for flag, value in pairwise(args):  # what pytest took for paths, not knowing the flags yet
        if flag in valued and value in paths:
            paths.remove(value)
    yield
    free = [name for name, flag in flags.items() if _is_free(parser, flag)]
    options.add(parser.getgroup("decathlon").addoption, OPTIONS, only=free, dest=DEST)
    ours = valued & {flags[name] for name in free}
    ours |= {options.flag(name, prefix="decathlon-") for name in flags if flags[name] in valued}
    _refuse_other_root(early_config, [pair for pair in pairwise(args) if pair[0] in ours])


def _refuse_other_root(config: pytest.Config, given: Sequence[tuple[str, str]]) -> None:
    """Raise pytest.UsageError if pytest looked for the project at an option's value.

    It looks for its rootdir and configuration before it knows our options, and takes the value of
    ``--run-dir DIR``, if there is such a file or folder, for a path of tests. given: the options of
    ours that stand apart from their values, with these.
    """
    from _pytest.config.findpaths import determine_setup  # pytest's own, which it does not export

    taken = [f"{flag}={value}" for flag, value in given if os.path.exists(value)]
    if not taken:
        return
    known = config.known_args_namespace
    told: dict[str, Any] = {
        "inifile": known.inifilename,
        "override_ini": known.override_ini,
        "args": known.file_or_dir,
        "rootdir_cmd_arg": known.rootdir or None,
        "invocation_dir": config.invocation_params.dir,
    }
    takes = signature(determine_setup).parameters  # pytest 8 lacks override_ini
    root, file, *_ = determine_setup(**{name: told[name] for name in takes})
    if (root, file) != (config.rootpath, config.inipath):
        had, own = (
            f"{where} ({path.name if path else 'no settings'})"
            for where, path in ((config.rootpath, config.inipath), (root, file))
        )
        raise pytest.UsageError(
            f"decathlon: pytest takes an option's value for a path of tests, and {had} for the "
            f"project, which is {own}: write {shlex.join(taken)}"
        )


def _is_free(parser: pytest.Parser, flag: str) -> bool:
    """Whether no option has this name yet."""
    try:
        return flag in parser.parse_known_and_unknown_args([flag])[1]
    except pytest.UsageError:  # it is one that wants a value
        return False


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark ``decathlon``, which makes a test one item for each cell of a topic."""
    config.addinivalue_line(
        "markers", "decathlon(topic): one item for each cell of the topic, or of all own ones"
    )
    config.stash[SAID] = []


def _run(config: pytest.Config) -> Run:
    """Return this pytest call's run, made on first use. Raises UsageError for bad input."""
    if RUN not in config.stash:
        from harness.asked import make

        config.stash[RUN], config.stash[CELLS] = make(
            config, _told(config), _configured(config), config.stash[SAID], DEST
        )
        config.stash[RUN].sinks = _sinks(config)
    return config.stash[RUN]


def _sinks(config: pytest.Config) -> list[Callable[[Record, Run], None]]:
    """Return what implements ``pytest_decathlon_record``, each to be called alone."""

    def sink(impl: pluggy.HookImpl) -> Callable[[Record, Run], None]:
        @wraps(impl.function)
        def call(record: Record, run: Run) -> None:
            told = {"record": record, "run": run}
            impl.function(*(told[name] for name in impl.argnames))

        return call

    return [sink(impl) for impl in config.hook.pytest_decathlon_record.get_hookimpls()]


def _told(config: pytest.Config) -> options.RunOptions:
    """Return this pytest call's options of a run. Raises UsageError for bad ones."""
    return _configured(config).run_options(options.given(config.option, [options.RunOptions], DEST))


def _configured(config: pytest.Config) -> Configured:
    """Return what the project sets by itself. Raises UsageError for bad settings."""
    from harness import pyproject

    return pyproject.read(config.inipath.parent if config.inipath else config.rootpath)


def _stop(error: UsageError) -> NoReturn:
    """End this pytest call with one line and exit code 2.

    Unlike pytest.exit, it also ends one that collects, and names no class.
    """
    raise pytest.Session.Interrupted(f"decathlon: {error}") from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one item of a marked test for each cell of its topic."""
    mark = metafunc.definition.get_closest_marker("decathlon")
    if mark is None:
        return
    fixture = next((name for name in RECORDS if name in metafunc.fixturenames), None)
    if fixture is None:
        raise pytest.Collector.CollectError(
            f"{metafunc.definition.nodeid} is marked decathlon and must take the fixture record, "
            "the record of one cell"
        )
    try:
        run = _run(metafunc.config)
    except UsageError as error:
        if hasattr(metafunc.config, "workerinput"):  # pytest-xdist takes an interrupt for a crash
            metafunc.definition.session.shouldstop = str(error)
            raise pytest.Collector.CollectError(f"decathlon: {error}") from None
        _stop(error)  # it concerns all files, not this one
    except Exception:  # of the project's own code: the next files would only say it again
        metafunc.definition.session.shouldstop = "decathlon: there are no cells to collect"
        raise
    names = [mark.kwargs.get("topic") or (mark.args[0] if mark.args else "")]
    if not mark.args and not mark.kwargs:
        from harness.topics.registry import built_in

        names = sorted(run.topics.keys() - built_in())
    elif names[0] not in run.topics:
        raise pytest.Collector.CollectError(str(unknown("topic", str(names[0]), run.topics)))
    cells = [cell for name in names for cell in metafunc.config.stash[CELLS].get(name, [])]
    metafunc.parametrize(fixture, cells, ids=[cell.id for cell in cells], indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem() -> Generator[None, Any, Any]:
    """Make nothing of a test of all topics that are not built in where there is none."""
    made = yield
    return [item for item in made if not _lacks_topics(item)] if isinstance(made, list) else made


def _lacks_topics(node: pytest.Item | pytest.Collector) -> bool:
    """Whether a test is marked for no topic by name, and there is none to make it an item of."""
    mark = node.get_closest_marker("decathlon")
    return mark is not None and not mark.args and not mark.kwargs and not cell_of(node)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """The cell's record: status, metrics, baseline, curve, cost, checkpoint, parity.

    Skips the test if the cell was skipped, and fails it, with the cell's reason, if the cell
    failed, was given up or is judged by what is no finite number.
    """
    return _record(request)


@pytest.fixture
def decathlon_record(request: pytest.FixtureRequest) -> Record:
    """What ``record`` is, for projects that have a fixture of that name."""
    return _record(request)


def _record(request: pytest.FixtureRequest) -> Record:
    """Return the record of the cell that a fixture of a test is for."""
    if not hasattr(request, "param"):
        told = "takes record, and must be marked decathlon(topic=...) for the cells it is to have"
        pytest.fail(f"{request.node.nodeid} {told}", pytrace=False)
    with _waiting(request.config) as run:
        found = run.result(request.param)
    if found.status is Status.SKIPPED:
        pytest.skip(found.reason)
    if found.status in FAULTS:
        trace = "" if REFUSED.match(found.reason) else f"\n{found.traceback}"
        told = f"{found.cell.id} {found.status}: {found.reason}{trace}"
        pytest.fail(told.rstrip(), pytrace=False)
    return found


@pytest.fixture(scope="session")
def decathlon_run(request: pytest.FixtureRequest) -> Run:
    """The run of this pytest call, once all its cells have ended and the machine is free."""
    with _waiting(request.config) as run:
        _screen(request.config, run)
        run.finish()
    return run


def _screen(config: pytest.Config, run: Run) -> Screen:
    """Return where this pytest call shows its run's progress, made on first use."""
    if SCREEN not in config.stash:
        from harness.screen import Screen

        config.stash[SCREEN] = Screen(config)
        config.stash[SCREEN].show(run)
    return config.stash[SCREEN]


@contextmanager
def _waiting(config: pytest.Config) -> Iterator[Run]:
    """Yield the run to a test that waits for it, then clear the run's progress from the screen."""
    try:
        yield _run(config)
    except UsageError as error:  # nothing can be kept any more
        _stop(error)
    finally:
        if SCREEN in config.stash:
            config.stash[SCREEN].clear()


def _cells(session: pytest.Session) -> list[Cell]:
    """Return the cells of the session's selected items."""
    return [cell for cell in map(cell_of, session.items) if cell]


def _plans(config: pytest.Config) -> bool:
    return bool(getattr(config.option, f"{DEST}plan", False))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the trainings of the selected cells; each item then waits for its record.

    Those of a race start when the tests do. What cannot be trained is refused before.
    """
    config = session.config
    broken = session.testsfailed and not config.option.continue_on_collection_errors
    if config.option.collectonly or broken or not (cells := _cells(session)):
        return
    from harness.asked import prepare

    run = _run(config)
    try:
        prepare(run, cells)
        if _plans(config):
            return
        screen = _screen(config, run)
        end_as_by_ctrl_c(config.add_cleanup)
        if run.profile != "race":
            screen.line(run.start(cells))
    except UsageError as error:
        _stop(error)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Hold the race, if it is one, before its cells' tests look at their records.

    With ``--plan``, print what would run and what it would cost, and run nothing.
    """
    config = session.config
    if not _plans(config):
        if SCREEN in config.stash and _run(config).profile == "race":
            _hold_race(config, _cells(session))
        return None
    if cells := list(dict.fromkeys(_cells(session))):
        from harness.plan import lines

        for line in lines(_run(config), cells):
            print(line)
    return True


def _hold_race(config: pytest.Config, cells: list[Cell]) -> None:
    """Race the recipes of cells, until the best are told apart or the minutes are over."""
    from harness import race

    try:
        race.hold(_run(config), cells, _told(config).minutes or 0)
    except UsageError as error:
        _stop(error)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Close the run, and write its tables and page."""
    config = session.config
    if RUN not in config.stash:
        return
    from harness.results.report import write_report

    run, said = config.stash[RUN], config.stash[SAID]
    run.end()
    said += run.store.set_aside
    try:
        if _write_benchmark(config, run.folder) or run.records:
            said.append(f"see {write_report(run.folder, said.append)}")
    except (OSError, UsageError) as error:
        said.append(f"no page was written: {error}")
    finally:
        run.close()


def _write_benchmark(config: pytest.Config, folder: Path) -> bool:
    """Write pytest-benchmark's own JSON into the folder; return whether a benchmark ran."""
    measured = getattr(config, "_benchmarksession", None)
    ended = [one for one in measured.benchmarks if one.stats.data] if measured else []
    if not ended:
        return False
    body = config.hook.pytest_benchmark_generate_json(
        config=config,
        benchmarks=ended,
        include_data=False,
        machine_info=config.hook.pytest_benchmark_generate_machine_info(config=config),
        commit_info=config.hook.pytest_benchmark_generate_commit_info(config=config),
    )
    write_atomically(folder / "benchmark.json", json.dumps(body, indent=1, default=str).encode())
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print where the run's page is, and which records could not be read."""
    for line in terminalreporter.config.stash.get(SAID, []):
        terminalreporter.write_line(f"decathlon: {line}")
