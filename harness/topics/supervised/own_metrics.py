"""The metrics of a task: the usual ones, and a user's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.cell import UsageError
from harness.topics.supervised.given import Choices

USUAL = {  # metrics of each task, and whether more or less is better
    "classification": {"accuracy": "max", "top3": "max", "ece": "min"},
    "regression": {"mse": "min", "mae": "min", "r2": "max"},
}
TOP = 3  # of so many classes or fewer there is no top3: it would always be 1


def refuse_primary(primary: str | None, classes: int, metrics: Iterable[str]) -> None:
    """Raise UsageError for a primary metric that data of so many classes does not have."""
    if primary == "top3" and classes <= TOP:
        choices = ", ".join(name for name in metrics if name != primary)
        raise UsageError(
            f"primary metric {primary!r} needs more than {TOP} classes, and data has {classes}: "
            f"choose from {choices}"
        )


@dataclass(frozen=True)
class OwnMetrics:
    """A user's metrics: functions by name, and for each whether ``max`` or ``min`` is better."""

    functions: Choices = Choices()
    better: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, given: Any, task: str) -> OwnMetrics:
        """Hold a dict of functions with their directions. Raises UsageError for other things."""
        if isinstance(given, OwnMetrics):
            return given
        if not isinstance(given, Mapping):
            raise UsageError(f"metrics is a {type(given).__name__}: a dict is needed")
        for name, pair in given.items():
            if not isinstance(pair, tuple) or len(pair) != 2 or pair[1] not in ("max", "min"):
                raise UsageError(f'metrics[{name!r}] must be a pair (function, "max" or "min")')
            if name in USUAL[task]:
                raise UsageError(f"metrics has {name!r}, which {task} measures already")
        functions = Choices.of("metrics", {name: pair[0] for name, pair in given.items()})
        return cls(functions, tuple((name, pair[1]) for name, pair in given.items()))
