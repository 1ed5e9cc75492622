"""Train cells by pytest: those of the experiments in the package, or of the experiments in PATHS.

Without PATHS every built-in topic is trained, and each topic of this folder's conftest.py; with
folders (or their conftest.py) as PATHS, each topic of a conftest there or below. -k chooses among
them. What else is given goes to pytest (-k, -x, --lf, -v, --collect-only ...), and the exit code is
pytest's. Records, tables and a page go to results/PROFILE in this folder.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import options
from harness.cell import Cell
from harness.topics.options import TOPIC_OPTIONS

HOME = Path(harness.__file__).parent
INSTALLED = (HOME / "experiments").exists()
EXPERIMENTS = (HOME if INSTALLED else HOME.parent) / "experiments"
OTHERS = EXPERIMENTS / "test_own.py"  # the experiment on topics that are not built in
# what the plugin adds to pytest's options
OPTIONS = (
    *(options.RunOptions, options.PlanOptions, options.SettingOptions, options.AxisOptions),
    *TOPIC_OPTIONS,
)


# fixtures that are a cell's record: that of the experiments here, whose name no project has for
# something else, and that of everyone's
RECORDS = ("decathlon_record", "record")


def cell_of(item: pytest.Item | pytest.Collector) -> Cell | None:
    """Return the cell that an item is about; None if it is about none."""
    call = getattr(item, "callspec", None)
    found = [call.params.get(name) for name in RECORDS] if call else []
    return next((cell for cell in found if isinstance(cell, Cell)), None)


def run(arguments: Sequence[str]) -> int:
    """Run pytest with these arguments, on the experiments if they name no paths.

    Returns pytest's exit code.
    """
    if any(word in ("-h", "--help") for word in arguments):
        _parser().print_help()
        return 0
    here = ["--rootdir", ".", *options.TO_PYTEST]
    if find_spec("pytest_timeout"):  # its limit is meant for tests; cells have one of their own
        here += ["-otimeout=0"]
    return int(pytest.main([*here, *_joined(arguments)], plugins=[_Experiments()]))


def _parser() -> argparse.ArgumentParser:
    """Return a parser that prints the command's help, and reads nothing."""
    parser = argparse.ArgumentParser(
        "decathlon run",
        usage="decathlon run [PATHS] [options] [options of pytest]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add(parser.add_argument, OPTIONS)
    return parser


def _joined(arguments: Sequence[str]) -> list[str]:
    """Return arguments with each of our options and its value in one word, ``--name=value``.

    pytest looks for its configuration before it knows our options: it takes no such word for a
    path.
    """
    takes = {
        options.flag(name, prefix)
        for name, field in options.fields(OPTIONS).items()
        for prefix in ("", "decathlon-")
        if not isinstance(field.default, bool)
    }
    words: list[str] = []
    for word in arguments:
        if words and words[-1] in takes:
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def _as_folder(base: Path, argument: str) -> str:
    """Return an argument of pytest's as a whole path, a conftest.py as its folder.

    What is no path stays as it is.
    """
    name, colons, test = argument.partition("::")
    path = Path(os.path.abspath(base / name))
    if not path.exists():
        return argument
    return f"{path.parent if path.name == 'conftest.py' else path}{colons}{test}"


def _with_conftests(folder: pytest.Directory) -> Iterator[Path]:
    """Load the conftests of a folder and below, and yield where they are.

    Else those of folders that are collected later would come too late for a run of all topics.
    """
    report = folder.ihook.pytest_make_collect_report(collector=folder)
    if (folder.path / "conftest.py").exists():
        yield folder.path
    for inner in report.result or ():
        if isinstance(inner, pytest.Directory):
            yield from _with_conftests(inner)


class _Experiments:
    """A pytest plugin that collects the experiments, or with paths what is there.

    Conftests and configuration are those that pytest finds in the present folder and for the paths.
    """

    def __init__(self) -> None:
        self.deselected: set[str] = set()  # topics
        self.folders: list[Path] = []  # among the paths, unless ours are in one
        self.tested: set[str] = set()  # topics that experiments in the paths are for

    def pytest_configure(self, config: pytest.Config) -> None:
        """Refuse pytest-xdist's workers, which do not know this plugin."""
        if getattr(config.option, "numprocesses", None):
            pytest.exit("decathlon: cells run in processes of their own: leave -n out", 2)

    def pytest_report_header(self, config: pytest.Config) -> str | None:
        """Say which settings of the project are left out."""
        text = config.inipath.read_text("utf-8", "replace") if config.inipath else ""
        if named := " and ".join(name for name in options.FOR_TESTS if name in text):
            return f"decathlon: {named} of {config.inipath} are for tests: left out"
        return None

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Collect the experiments, whatever the project calls the files and functions of its tests.

        They lie in the package, or beside it in its repository.
        """
        from harness import asked

        config = session.config
        config.stash[asked.PROJECT] = config.args
        if config.args_source is not config.ArgsSource.ARGS:
            config.option.pyargs = INSTALLED
            # by name: -k then matches no folder above the package
            config.args = ["harness.experiments" if INSTALLED else str(EXPERIMENTS)]
            config.addinivalue_line("python_files", "test_*.py")
            config.addinivalue_line("python_functions", "test_*")
            return (yield)
        config.args = [_as_folder(config.invocation_params.dir, path) for path in config.args]
        folders = [Path(path) for path in dict.fromkeys(config.args) if Path(path).is_dir()]
        if folders and (INSTALLED or not any(map(EXPERIMENTS.is_relative_to, folders))):
            self.folders = config.stash[asked.FOLDERS] = folders
            nodes = [pytest.Dir.from_parent(session, path=folder) for folder in folders]
            below = [str(path) for node in nodes for path in _with_conftests(node)]
            config.stash[asked.PROJECT] = [*config.args, *below]
            config.addinivalue_line("python_functions", OTHERS.stem)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Collect OTHERS after the folders, when it is known which topics are tested there."""
        report = yield
        if self.folders and isinstance(collector, pytest.Session) and report.passed:
            own = pytest.Module.from_parent(collector, path=OTHERS, nodeid=OTHERS.name)
            report.result = [*(report.result or ()), own]
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_pycollect_makeitem(self, collector: pytest.Collector) -> Generator[None, Any, Any]:
        """Make an item of OTHERS only of what conftests in the folders give and no test is for."""
        made = yield
        if not self.folders or not isinstance(made, list):
            return made
        from harness import asked

        if collector.path != OTHERS:
            self.tested |= {cell.topic for cell in map(cell_of, made) if cell}
            return made
        wanted = collector.config.stash.get(asked.GIVEN, set()) - self.tested
        return [item for item in made if (cell := cell_of(item)) and cell.topic in wanted]

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Note the topics of what -k leaves out."""
        self.deselected |= {cell.topic for cell in map(cell_of, items) if cell}

    def pytest_report_collectionfinish(
        self, config: pytest.Config, items: Sequence[pytest.Item]
    ) -> str | None:
        """Say which topics there are, if -k matches nothing, or that there are none."""
        from harness import asked

        if items:
            return None
        if self.deselected:
            topics = ", ".join(sorted(self.deselected))
            return f"decathlon: -k {config.option.keyword!r} matches nothing of the topics {topics}"
        if self.folders and config.stash.get(asked.GIVEN, None) == set():
            named = ", ".join(map(str, self.folders))
            return f"decathlon: no conftest.py gives a topic, and no test is marked, in {named}"
        return None
