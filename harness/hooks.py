"""The hooks that a conftest may implement; what each returns is added to what is built in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.results.record import Record
    from harness.runs import Run


@pytest.hookspec
def pytest_decathlon_topics() -> list:
    """Return this project's topics (``harness.Topic``), to be added to the installed ones."""
    return []


@pytest.hookspec
def pytest_decathlon_losses() -> list:
    """Return this project's losses (``harness.Loss``), to be added to the built-in ones."""
    return []


@pytest.hookspec
def pytest_decathlon_schedules() -> list:
    """Return this project's learning-rate schedules (``harness.Schedule``)."""
    return []


@pytest.hookspec
def pytest_decathlon_optimizers() -> list:
    """Return this project's kinds of optimizers (``harness.Optimizer``)."""
    return []


@pytest.hookspec
def pytest_decathlon_parallel() -> list:
    """Return this project's parallel configurations (``harness.Parallel``)."""
    return []


@pytest.hookspec
def pytest_decathlon_record(record: Record, run: Run) -> None:
    """Take in a record of the run, in pytest's own process, once it is in the run's folder.

    It is called for every cell: trained, skipped, and reused, whose record may have been here
    in an earlier call. What it raises costs a line, and no record.
    """
