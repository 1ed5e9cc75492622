"""Bring values to the axes: those of installed packages by entry point, those of a project."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points

from harness.axes.axis import Axis, Value
from harness.axes.losses import LOSSES
from harness.axes.optimizers import OPTIMIZERS
from harness.axes.parallel import CONFIGURATIONS
from harness.axes.schedules import SCHEDULES
from harness.cell import Cell, UsageError

AXES: dict[str, Axis] = {
    "losses": LOSSES,
    "schedules": SCHEDULES,
    "optimizers": OPTIMIZERS,
    "parallel": CONFIGURATIONS,
}


def installed() -> list[str]:
    """Bring what packages have under the entry points ``harness.losses`` and so on.

    Returns a line for each that is broken: it is left out, and costs itself only.
    """
    broken = []
    for name, axis in AXES.items():
        for point in entry_points(group=f"harness.{name}"):
            try:
                value = point.load()
                axis.add(value() if isinstance(value, type) else value)
            except (Exception, SystemExit) as error:  # whatever importing it raises
                broken.append(left_out(axis.kind, point, error))
    return broken


def add(name: str, returned: Iterable[object]) -> None:
    """Bring what the hooks ``pytest_decathlon_NAME`` returned, one value for each conftest.

    Each is a list of values, one value or None. Raises UsageError for what is declared wrong.
    """
    for some in returned:
        for value in listed(f"pytest_decathlon_{name}", some, Value):
            AXES[name].add(value)
    schedules = (*SCHEDULES.own, *SCHEDULES.built_in, *SCHEDULES.chosen)
    if both := [kind for kind in OPTIMIZERS.own if kind in schedules]:
        raise UsageError(
            f"{both[0]} is the name of an optimizer and of a schedule, among which optimizers are "
            "chosen too: give one of them another name"
        )


def own() -> tuple[Value, ...]:
    """Return all values that were brought, for ``take``."""
    return tuple(value for axis in AXES.values() for value in axis.own.values())


def used(cell: Cell, kinds: Iterable[str]) -> tuple[Value, ...]:
    """Return what was brought and a cell trains with.

    kinds: of its players' optimizers.
    """
    names = {
        "losses": {cell.loss},
        "schedules": {cell.schedule},
        "optimizers": {cell.schedule, *kinds},
        "parallel": {cell.parallel},
    }
    every = ((axis.own, names[key]) for key, axis in AXES.items())
    return tuple(value for own, asked in every for name, value in own.items() if name in asked)


@contextmanager
def having(values: Iterable[tuple[str, object]]) -> Iterator[None]:
    """Have more values for the block, each instead of another of its name that was brought.

    values: with the name of its axis before each. Raises UsageError for what is declared wrong.
    """
    before = own()
    try:
        several = list(values)
        for axis, value in several:
            AXES[axis].own.pop(str(getattr(value, "name", "")), None)
        for axis, value in several:
            add(axis, [[value]])
        yield
    finally:
        take(before)


def take(values: Iterable[Value]) -> None:
    """Have these values and no others, as the process has that sent them."""
    for axis in AXES.values():
        axis.own.clear()
    for value in values:
        axis = next(axis for axis in AXES.values() if isinstance(value, axis.of))
        axis.own[value.name] = value


def listed(
    hook: str, value: object, one: type, needed: str = "a list is needed, or one value"
) -> Iterable[object]:
    """Return what a conftest's hook returned as several: a list of ``one``, a single one or None.

    Raises UsageError for anything else, saying what is needed.
    """
    if value is None:
        return ()
    if isinstance(value, one | type):
        return (value,)
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise UsageError(f"{hook} returned {value!r:.80}: {needed}")
    return value


def left_out(kind: str, point: EntryPoint, error: BaseException) -> str:
    """Return in a line that an entry point is left out, and why."""
    why = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
    package = f" of {point.dist.name}" if point.dist else ""
    return (
        f"{kind} {point.name} is left out: its entry point {point.value}{package} is broken: "
        f"{' '.join(why.split())}"
    )
