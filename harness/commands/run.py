"""Train cells by pytest: those of the experiments in the package, or of the experiments in PATHS.

Without PATHS every built-in topic is trained, and each topic of this folder's conftest.py; -k
chooses among them. What else is given goes to pytest (-k, -x, --lf, -v, --collect-only ...), and
the exit code is pytest's. Records, tables and a page go to results/PROFILE in this folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import options
from harness.cell import Cell
from harness.topics.options import TOPIC_OPTIONS

HOME = Path(harness.__file__).parent
# what the plugin adds to pytest's options
OPTIONS = (
    *(options.RunOptions, options.PlanOptions, options.SettingOptions, options.AxisOptions),
    *TOPIC_OPTIONS,
)


def cell_of(item: pytest.Item | pytest.Collector) -> Cell | None:
    """Return the cell that an item is about; None if it is about none."""
    call = getattr(item, "callspec", None)
    found = call.params.get("record") if call else None
    return found if isinstance(found, Cell) else None


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


class _Experiments:
    """A pytest plugin that collects the experiments, unless pytest was given paths.

    Conftests and configuration are those that pytest finds in the present folder.
    """

    def __init__(self) -> None:
        self.deselected: set[str] = set()  # topics

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
        config = session.config
        if config.args_source is not config.ArgsSource.ARGS:
            from harness import asked

            config.stash[asked.PROJECT] = config.args
            config.option.pyargs = (HOME / "experiments").exists()
            inside = "harness.experiments"  # by name: -k then matches no folder above the package
            config.args = [inside if config.option.pyargs else str(HOME.parent / "experiments")]
            config.addinivalue_line("python_files", "test_*.py")
            config.addinivalue_line("python_functions", "test_*")
        return (yield)

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Note the topics of what -k leaves out."""
        self.deselected |= {cell.topic for cell in map(cell_of, items) if cell}

    def pytest_report_collectionfinish(
        self, config: pytest.Config, items: Sequence[pytest.Item]
    ) -> str | None:
        """Say which topics there are, if -k matches nothing."""
        if items or not self.deselected:
            return None
        topics = ", ".join(sorted(self.deselected))
        return f"decathlon: -k {config.option.keyword!r} matches nothing of the topics {topics}"
