"""One axis of the matrix: its built-in values, and those that a project or a package brings."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from harness.cell import NAME, UsageError


@dataclasses.dataclass(frozen=True)
class Value:
    """A value that a project brings to an axis; its dataclass fields are its hyper-parameters.

    name: as it is chosen and as it stands in cells' ids. default: whether every run has it, or
    only one that chooses it by name.
    """

    name: ClassVar[str]
    default: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()  # the methods that it must have


V = TypeVar("V", bound=Value)


class Axis(Generic[V]):
    """The values of one axis by name.

    kind: what a value is called, such as ``loss``. of: the class that values brought derive from.
    built_in: the names that every run has; chosen: those built in for runs that choose them.
    own: by name, what was brought.
    """

    def __init__(
        self, kind: str, of: type[V], built_in: Iterable[str], chosen: Iterable[str] = ()
    ) -> None:
        self.kind, self.of = kind, of
        self.built_in, self.chosen = tuple(built_in), tuple(chosen)
        self.own: dict[str, V] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names that every run has."""
        return (*self.built_in, *(name for name, value in self.own.items() if value.default))

    @property
    def every(self) -> tuple[str, ...]:
        """All names, those that a run must choose too."""
        return tuple(dict.fromkeys((*self.built_in, *self.chosen, *self.own)))

    def add(self, value: object) -> None:
        """Bring a value. Raises UsageError if it is declared wrong or its name is taken.

        The same value may come twice.
        """
        if mistake := next(self._mistakes(value), None):
            raise UsageError(mistake)
        assert isinstance(value, self.of)
        other = self.own.get(value.name)
        if other is not None and not _same(other, value):
            raise UsageError(
                f"two {self.kind} values are named {value.name!r}: {described(type(other))} and "
                f"{described(type(value))}: give one of them another name"
            )
        self.own[value.name] = value

    def _mistakes(self, value: object) -> Iterator[str]:
        """Yield what is wrong with a value that is brought."""
        if isinstance(value, type):
            yield f"{self.kind} {described(value)} is a class: give an instance, {value.__name__}()"
        if not isinstance(value, self.of):
            yield (
                f"{value!r:.80} is no {self.kind}: its class must derive from "
                f"harness.{self.of.__name__}"
            )
            return
        kind = type(value)
        where = f"{self.kind} {described(kind)}"
        name = getattr(value, "name", None)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            yield f"{where} has no name: write name = ... in lower-case letters, digits and _"
        if name in (*self.built_in, *self.chosen):
            yield f"{where} is named {name!r}, which is built in: give it another name"
        if "<locals>" in kind.__qualname__:
            yield f"{where} is written inside a function, where no other process finds it: move it"
        for method in kind.needs:
            if getattr(kind, method) is getattr(self.of, method):
                yield f"{where} has no method {method}: see harness.{self.of.__name__}.{method}"
        fields = {field.name for field in dataclasses.fields(value)}
        for base in (base for base in kind.__mro__ if issubclass(base, self.of)):
            annotated = {
                n for n, a in inspect.get_annotations(base).items() if "ClassVar" not in str(a)
            }
            if lost := sorted((annotated | set(vars(value))) - fields):
                yield (
                    f"{where} is no dataclass, so {', '.join(lost)} would not count: write "
                    "@dataclass(frozen=True) above the class"
                )
        for field in fields:
            if not is_plain(own := getattr(value, field)):
                yield (
                    f"{where} has a field {field} that is a {type(own).__name__}: numbers, text, "
                    "None and tuples of these are its hyper-parameters"
                )


def is_plain(value: object) -> bool:
    """Whether a field's value can be told from another in a fingerprint."""
    if isinstance(value, tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _same(one: Value, other: Value) -> bool:
    """Whether two values are the same class, perhaps loaded twice, with equal fields."""
    kinds = [(type(value).__module__, type(value).__qualname__) for value in (one, other)]
    return kinds[0] == kinds[1] and dataclasses.asdict(one) == dataclasses.asdict(other)


def described(kind: type) -> str:
    """Return a class's name with the file it is written in, relative to here if that is shorter."""
    try:
        file = Path(inspect.getfile(kind))
    except (OSError, TypeError):
        return f"{kind.__name__} of {kind.__module__}"
    return f"{kind.__name__} ({min(str(file), os.path.relpath(file), key=len)})"
