"""Find the topics of the project that a command stands in, and the rates that serve them."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import matrix, options, pyproject
from harness.axes import registry
from harness.cell import Cell, UsageError, unknown
from harness.options import TO_PYTEST
from harness.rates import Rates, shipped, table
from harness.settings import Given, Settings, of_text
from harness.topics.registry import installed_topics, registered_topics, with_own
from harness.training.topic import Topic

TUNED = ("quick", "race")  # profiles with the budgets that the shipped rates were found with


def topics(run_folder: Path, **told: Any) -> dict[str, Topic]:
    """Return all topics by name: installed ones with what is told set, and the project's own.

    run_folder: of a run in this project. Conftests are loaded that were when it ran, which may also
    register environments. Raises UsageError if one of them cannot be loaded.
    """
    own = _conftests(_collected(run_folder))
    return with_own(registered_topics(**told), own)


def topics_of(paths: Sequence[str], **told: Any) -> dict[str, Topic]:
    """Return all topics by name, the project's own from the conftests that pytest loads for paths.

    paths: as pytest takes them, none for those that it takes by itself. Raises UsageError as
    ``topics`` does.
    """
    for path in paths:
        if not Path(path).exists():
            raise UsageError(f"{path} is not there: name the folder of the project's tests")
    own = _conftests([*paths])
    return with_own(registered_topics(**told), own)


def _collected(run_folder: Path) -> list[str]:
    """Return the paths that pytest collected in a run, of those that are here."""
    try:
        environment = json.loads((run_folder / "environment.json").read_bytes())
        told = [str(path) for path in environment.get("project", [])]
    except (OSError, ValueError, AttributeError, TypeError):
        return []
    return [path for path in told if Path(path).exists()]


def bring(hook: Any) -> list[str]:
    """Bring to the axes what packages and the conftests of a pytest call give.

    hook: that call's hooks. Returns a line for each entry point that is broken. Raises UsageError
    for a value that is declared wrong.
    """
    broken = registry.installed()
    for name in registry.AXES:
        registry.add(name, getattr(hook, f"pytest_decathlon_{name}")())
    return broken


class _Topics:
    """A pytest plugin that asks the conftests for what they give, and collects nothing."""

    found: list[Any]
    path: list[str]
    refused: UsageError | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int:
        """Take the place of pytest's main loop, once it has loaded the conftests."""
        try:
            for line in bring(config.hook):
                warnings.warn(line, stacklevel=2)
        except UsageError as error:
            self.refused = error
        self.found = config.hook.pytest_decathlon_topics()
        self.path = [*sys.path]
        return 0


def _conftests(paths: list[str]) -> list[Any]:
    """Return what the conftests that pytest loads for these paths give as topics.

    What pytest puts on the path for them (its ``pythonpath``) stays there, for workers to import.
    """
    asked, said = _Topics(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = pytest.main([*TO_PYTEST, *paths], plugins=[asked])
    if code:
        lines = [line for line in said.getvalue().splitlines() if line.strip()] or [f"exit {code}"]
        raise UsageError(f"the project's conftest cannot be loaded: {lines[-1].removeprefix('E ')}")
    if asked.refused:
        raise asked.refused
    sys.path[:] = asked.path
    return asked.found


class _Root:
    """A pytest plugin that takes pytest's rootdir, and loads no conftest."""

    path: Path | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_load_initial_conftests(self, early_config: pytest.Config) -> None:
        """Take the rootdir, which pytest has found by now."""
        self.path = early_config.rootpath

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self) -> int:
        """Take the place of pytest's main loop."""
        return 0


def configure(
    chosen: argparse.Namespace, names: Iterable[str], paths: Sequence[str] | None = None
) -> list[Given]:
    """Give a command line the project's defaults of options, and return the project's settings.

    They are in the pyproject.toml in pytest's rootdir for paths, by default those that the chosen
    run collected. names: of the run options that the command has. Raises UsageError for what is
    wrong in it.
    """
    asked, said = _Root(), io.StringIO()
    collected = _collected(options.run_folder(chosen)) if paths is None else paths
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        pytest.main([*TO_PYTEST, *collected, "--noconftest"], plugins=[asked])
    found = pyproject.read(asked.path or Path.cwd())
    for name in names:
        if getattr(chosen, name, None) is None:
            setattr(chosen, name, found.options.get(name))
    return found.settings


def settings_of(
    chosen: argparse.Namespace, configured: Iterable[Given], topics: Mapping[str, Topic]
) -> Settings:
    """Return a project's settings with those of a command line, which win."""
    return Settings.of([*configured, *map(of_text, chosen.set or ())], topics)


def rates_of(
    topics: Mapping[str, Topic], profile: str, path: str | None, settings: Settings | None = None
) -> Rates:
    """Return the rates that cells train at: those of a table, else of the shipped one.

    The shipped rates were found on the built-in topics' own data and settings with quick's budgets,
    and serve these alone: not a topic of which ``settings`` has a value that decides numbers. path:
    of a table of rates, None for no other. Raises UsageError for what is no such table, and for a
    recipe that none of the topics has.
    """
    known = installed_topics()[0] if profile in TUNED else {}
    changed = settings.deciding() if settings else set()
    own = [n for n, topic in topics.items() if topic == known.get(n) and n not in changed]
    ours = shipped().of_topics(own)
    if path is None:
        return ours
    given = table.read(Path(path))
    for name, model, loss, schedule in given.found:
        try:
            if name not in topics:
                raise unknown("topic", name, topics)
            matrix.skip_reason(topics[name], Cell(name, model, loss, schedule))
        except UsageError as error:
            raise UsageError(f"rates {path}: {error}") from None
    return given.over(ours)
