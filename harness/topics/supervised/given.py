"""Hold what a user gives that is no plain value: functions, classes, Datasets, tensors."""

from __future__ import annotations

import functools
import inspect
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import cloudpickle

from harness import fingerprint, sources
from harness.axes.axis import is_plain
from harness.cell import NAME, UsageError


class _Thing:
    """What is held beside a name. A base class, so that none of it becomes a dataclass's field."""

    value: Any
    kind: Any
    key: Any
    is_function: bool


@dataclass(frozen=True, init=False, eq=False)
class Given(_Thing):
    """Something of the user's: its name, which stands in settings and the fingerprint, and itself.

    A function or class is named by its module, with the arguments of a ``functools.partial``; one
    that is installed has its version in its name. ``kind`` is the function or class whose code
    counts: of a Dataset its class, None of what is installed. Two are equal if they are the same
    function of the same code; any other ``value`` equals itself only, wherever it travels.
    """

    name: str = field(init=False)

    def __init__(self, what: str, value: Any) -> None:
        """Hold ``value``, which errors call ``what``. Raises UsageError for what cannot travel."""
        is_function = callable(value) and not _is_object(value)
        kind: Any = _function(what, value) if is_function else type(value)
        own = sources.is_own(kind.__module__)
        name = f"{kind.__module__}.{kind.__qualname__}" if is_function else kind.__qualname__
        if isinstance(value, functools.partial):
            name += _arguments(what, value)
        if is_function and not own:
            package = sys.modules[kind.__module__.split(".")[0]]
            name += f" {getattr(package, '__version__', '')}".rstrip()
        key = (name, fingerprint.code_of(kind) if own else "") if is_function else uuid.uuid4().hex
        kept = {"name": name, "value": value, "kind": kind if own else None, "key": key}
        vars(self).update(kept, is_function=is_function)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Given) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """Return the parameters of a function; none if they cannot be told."""
        try:
            return inspect.signature(self.value).parameters
        except (TypeError, ValueError):
            return {}

    def refuse_unpicklable(self, what: str) -> None:
        """Raise UsageError for a value that cannot travel to another process, such as a file's."""
        if not self.is_function:
            try:
                cloudpickle.dumps(self.value)
            except Exception as error:  # of any class's own making
                line = " ".join(str(error).split())[:200]
                raise UsageError(
                    f"{what} cannot travel to a worker process ({type(error).__name__}: {line}): "
                    "give a function that returns it"
                ) from None


@dataclass(frozen=True)
class Choices(Mapping[str, Given]):
    """Functions by name, such as those that make a topic's models: a mapping that can be hashed."""

    named: tuple[tuple[str, Given], ...] = ()

    @classmethod
    def of(cls, what: str, given: Any) -> Choices:
        """Hold a dict of functions. Raises UsageError for what is none."""
        if isinstance(given, Choices):
            return given
        if not isinstance(given, Mapping):
            raise UsageError(f"{what} is a {type(given).__name__}: a dict of functions is needed")
        for name in given:
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise UsageError(
                    f"{what} has {name!r}, which is no name: lower-case letters, digits and "
                    "underscores, a letter first"
                )
        return cls(tuple((n, function(f"{what}[{n!r}]", v)) for n, v in given.items()))

    def __getitem__(self, name: str) -> Given:
        return dict(self.named)[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.named)

    def __len__(self) -> int:
        return len(self.named)


def function(what: str, value: Any) -> Given:
    """Hold a function or class. Raises UsageError for anything else, as ``what``."""
    if isinstance(value, Given):
        return value
    if not callable(value) or _is_object(value):
        raise UsageError(f"{what} is a {type(value).__name__}: a function is needed")
    return Given(what, value)


def _is_object(value: Any) -> bool:
    """Whether a value is neither a function nor a class, though it may be called."""
    if isinstance(value, functools.partial | type):
        return False
    return not (hasattr(value, "__qualname__") and hasattr(value, "__module__"))


def _function(what: str, value: Any) -> Any:
    """Return the function or class that a value is, or that a partial is of.

    Raises UsageError if another process could not find it.
    """
    found = value.func if isinstance(value, functools.partial) else value
    name = getattr(found, "__qualname__", "")
    if "<lambda>" in name or "<locals>" in name:
        kind = "a lambda" if name.endswith("<lambda>") else f"{name}, written inside a function"
        raise UsageError(
            f"{what} is {kind}, which no other process finds: write it with def at the top of its "
            "file (functools.partial gives it arguments)"
        )
    if not name or not isinstance(getattr(found, "__module__", None), str):
        raise UsageError(f"{what} is a {type(found).__name__}: a function or class is needed")
    if inspect.ismethod(found):
        raise UsageError(f"{what} is a method of an object: a function or class is needed")
    return found


def _arguments(what: str, value: functools.partial[Any]) -> str:
    """Return a partial's arguments as text. Raises UsageError for one that is no plain value."""
    for argument in (*value.args, *value.keywords.values()):
        if not is_plain(argument):
            raise UsageError(
                f"{what} is a partial with a {type(argument).__name__}: give it numbers, text, "
                "None, or tuples of these"
            )
    words = [*map(repr, value.args), *(f"{n}={v!r}" for n, v in sorted(value.keywords.items()))]
    return f"({', '.join(words)})"
