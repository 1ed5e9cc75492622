"""Pytest items of checks: a test marked ``decathlon_check(topic="mine")`` is one item a check.

Part of the plugin ``decathlon``, which every project loads: nothing here imports torch before a
marked test is collected.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness import options
from harness.cell import UsageError
from harness.topics.options import TOPIC_OPTIONS

if TYPE_CHECKING:
    from harness.conformance.finding import Finding
    from harness.conformance.subject import Source, Subject
    from harness.training.topic import Topic

MARK = "decathlon_check"
AXES = ("model", "loss", "schedule")
SUBJECTS: pytest.StashKey[dict[tuple[Any, ...], Subject]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark."""
    config.addinivalue_line(
        "markers", f"{MARK}(topic, model, loss, schedule): one item for each check of a training"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one item of a marked test for each check, whether or not it takes ``finding``."""
    mark = metafunc.definition.get_closest_marker(MARK)
    if mark is None:
        return
    from harness.conformance.checks import DECLARED, checks

    try:
        _of(metafunc.config, mark)
    except UsageError as error:
        raise pytest.Collector.CollectError(f"decathlon: {error}") from None
    if "finding" not in metafunc.fixturenames:
        metafunc.fixturenames.append("finding")
    names = [DECLARED, *(check.name for check in checks())]
    metafunc.parametrize("finding", [(mark, name) for name in names], ids=names, indirect=True)


def _of(config: pytest.Config, mark: pytest.Mark) -> tuple[Topic, Source]:
    """Return a mark's topic, and where it is from. Raises UsageError for bad input."""
    from harness import project
    from harness.conformance import subject
    from harness.topics.registry import installed_topics, with_own

    odd = sorted(set(mark.kwargs) - {"topic", *AXES})
    name = mark.kwargs.get("topic") or (mark.args[0] if mark.args else "")
    if odd or not isinstance(name, str):
        raise UsageError(f"{MARK} takes topic, {', '.join(AXES)}: not {', '.join(odd) or name!r}")
    project.bring(config.hook)
    told = options.given(config.option, TOPIC_OPTIONS, "decathlon_")
    if ":" in name:
        topic = subject.imported(name)
    else:
        own = config.hook.pytest_decathlon_topics()
        topic = subject.named(name, with_own(installed_topics(**told)[0], own))
    source = subject.Source(name, _conftests(config), told)
    if subject.declared(topic) is None:
        subject.chosen_cell(topic, **_axes(mark))
    return topic, source


def _conftests(config: pytest.Config) -> tuple[str, ...]:
    """Return the folders of the conftests that a pytest call has loaded."""
    files = (getattr(plugin, "__file__", None) for plugin in config.pluginmanager.get_plugins())
    paths = (Path(file) for file in files if file)
    return tuple(sorted(str(path.parent) for path in paths if path.name == "conftest.py"))


def _axes(mark: pytest.Mark) -> dict[str, str]:
    return {axis: mark.kwargs[axis] for axis in AXES if axis in mark.kwargs}


@pytest.fixture
def finding(request: pytest.FixtureRequest) -> Finding:
    """What a check found: status, text and todo."""
    return _find(request.config, *request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Fail a marked test whose check fails, in one line, and skip one that does not apply."""
    if pyfuncitem.get_closest_marker(MARK) is None:
        return
    calls: Any = pyfuncitem
    mark, name = calls.callspec.params["finding"]
    given: Any = pyfuncitem.funcargs.get("finding")
    found: Finding = given or _find(pyfuncitem.config, mark, name)
    if found.status == "does not apply":
        pytest.skip(found.text)
    if found.status == "fails":
        todo = f"\n-> {found.todo}" if found.todo else ""
        pytest.fail(f"{name}: {found.text}{todo}", pytrace=False)


def _find(config: pytest.Config, mark: pytest.Mark, name: str) -> Finding:
    """Run one check of a mark's topic."""
    from harness.conformance import checks
    from harness.conformance.finding import does_not_apply
    from harness.conformance.subject import declared

    topic, source = _of(config, mark)
    mistake = declared(topic)
    if name == checks.DECLARED:
        return mistake or checks.DECLARED_RIGHT
    if mistake:
        return does_not_apply(f"see {checks.DECLARED}")
    (check,) = (check for check in checks.checks() if check.name == name)
    return checks.run(check, _subject(config, topic, source, mark))


def _subject(config: pytest.Config, topic: Topic, source: Source, mark: pytest.Mark) -> Subject:
    """Return the subject of a mark, whose processes serve all its items."""
    import torch

    from harness.conformance.subject import chosen_cell, subject

    kept = config.stash.setdefault(SUBJECTS, {})
    cell = chosen_cell(topic, **_axes(mark))
    key = (cell, source.name)
    if key not in kept:
        stack = ExitStack()
        config.add_cleanup(stack.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fresh = torch.cuda.device_count() > 0  # forks of this call's server see what it sees
        kept[key] = stack.enter_context(subject(topic, cell, folder, source, fresh))
    return kept[key]
