"""Hash the values that code uses and that its text does not tell, such as a script's options."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from harness import sources
from harness.fingerprint import mentions
from harness.fingerprint.contents import PAIRS, PLAIN, SEVERAL, Contents, UntoldError, joined

CHANGING = (list, collections.deque, dict, set, type(None))  # what a cache is, or before it is one
UNCOUNTED = ("budgets", "_abc_impl")  # of a class: a cell's budget counts by itself


class Used(NamedTuple):
    """A hash of values, and the names and types of those that it leaves out.

    These cannot be told from others.
    """

    told: str
    untold: tuple[str, ...]


class _Use(NamedTuple):
    scope: Mapping[str, Any]
    name: str
    told: bytes
    untold: str


def used(kinds: Sequence[Any]) -> Used:
    """Hash the values that classes and functions of a project take along to another process.

    They are those that their code, and the code of their modules that it calls, finds under a
    global name, in a closure, as a default or in a class. Of a cache that nothing but this code
    fills the content does not count, nor do addresses, the order of sets, and the folder that a
    module lies in. Of a function counts which of its module's it is.
    """
    walk = _Walk(kinds)
    for kind in kinds:
        if kind.__module__ in walk.homes:
            name = getattr(kind, "__qualname__", type(kind).__qualname__)
            walk.use(_scope(kind), name, kind)
    uses = walk.counted()
    untold = sorted({f"{label} ({use.untold})" for label, use in uses if use.untold})
    parts = sorted(joined((label.encode(), use.told)) for label, use in uses)
    return Used(hashlib.sha256(joined(parts)).hexdigest()[:12] if parts else "", tuple(untold))


class _Walk(Contents):
    """Goes from classes and functions to all that they use, once.

    homes: the modules that travel by value, those of the classes and functions, and the script.
    """

    def __init__(self, kinds: Sequence[Any]) -> None:
        homes = {"__main__", *(kind.__module__ for kind in kinds)} & sys.modules.keys()
        self.homes = {name for name in homes if sources.is_own(name)}
        scopes = (_scope(one) for one in (*kinds, sys.modules["__main__"]))
        named = (scope.get("__file__") for scope in scopes if scope["__name__"] in self.homes)
        files = [Path(file).absolute() for file in named if file]
        files += [file for kind in kinds if (file := sources.origin(kind))]
        super().__init__(file.parent for place in files for file in (place, place.resolve()))
        self._uses: dict[tuple[int, str], _Use] = {}  # by their owner's id and a label
        self._reached: dict[int, set[mentions.Place]] = collections.defaultdict(set)
        self._kept: list[object] = []  # so that no id is given twice

    def use(self, owner: Any, label: str, value: object, scope: Any = None) -> None:
        """Take a value into account that an owner, a module's namespace or a class, has."""
        key = id(owner), label
        if key in self._uses:
            return
        scope, name = owner if scope is None else scope, label.rpartition(".")[2]
        self._kept.append(owner)
        self._uses[key] = _Use(scope, name, b"", "")  # it may lead to itself
        try:
            self._uses[key] = _Use(scope, name, self.told(value), "")
        except UntoldError as untold:
            self._uses[key] = _Use(scope, name, b"", str(untold))

    def counted(self) -> list[tuple[str, _Use]]:
        """Return what is used, by its label, but for what only the code that uses it changes."""
        private = {
            id(use.scope): mentions.private(
                _text(use.scope.get("__file__")), frozenset(self._reached[id(use.scope)])
            )
            for use in self._uses.values()
        }
        uses = ((label, use) for (_, label), use in self._uses.items())
        return [(label, use) for label, use in uses if use.name not in private[id(use.scope)]]

    def parts(self, value: Any) -> Iterator[bytes]:
        """Yield the parts of code, or of a value that is not plain."""
        if isinstance(value, FunctionType):
            yield from self._function(value)
        elif isinstance(value, type):
            yield from self._class(value)
        elif isinstance(value, ModuleType | BuiltinFunctionType):
            yield self.name(value)
        elif (inner := _inner(value)) is not None:
            yield from map(self.told, inner)
        else:
            yield from super().parts(value)

    def name(self, value: Any) -> bytes:
        """Return the name of a class, function or module; of those that travel without a module."""
        if getattr(value, "__module__", None) in self.homes:
            return str(value.__qualname__).encode()
        return super().name(value)

    def _function(self, function: FunctionType) -> Iterator[bytes]:
        """Yield a function's name and the values that it has itself; note those that it uses."""
        scope = function.__globals__
        home = scope.get("__name__") in self.homes
        yield self.name(function)
        if home:
            yield from self._which(function)
        wrapped = vars(function).get("__wrapped__")
        if home:
            self._kept.append(scope)
            code = function.__code__
            self._reached[id(scope)].add((code.co_name, code.co_firstlineno))
            for label, value, home_of in _uses(function, self.homes):
                self.use(scope, label, value, home_of)
            yield from map(self.told, (function.__defaults__, function.__kwdefaults__))
            for name, value in sorted(vars(function).items()):
                yield from self._attribute(function, name, value, scope)
        elif wrapped is not None:
            yield self.told(wrapped)
        if home or "<locals>" in function.__qualname__:
            cells = [cell.cell_contents for cell in function.__closure__ or () if _is_full(cell)]
            if home or wrapped is None:
                yield from map(self.told, cells)
            else:
                yield from self._beside(cells)

    def _which(self, function: FunctionType) -> Iterator[bytes]:
        """Yield what tells a function from others of its name: its place in a file, or its code."""
        code = function.__code__
        if code.co_filename == function.__globals__.get("__file__"):
            places = [(line, column) for line, _, column, end in code.co_positions() if end]
            yield repr((code.co_firstlineno, min(places, default=None))).encode()
        else:
            yield from self._code(code)

    def _code(self, code: CodeType) -> Iterator[bytes]:
        """Yield what a function's code does, with the functions inside of it."""
        yield code.co_code
        yield from map(self.told, (code.co_names, code.co_varnames, code.co_freevars))
        for one in code.co_consts:
            yield joined(self._code(one)) if isinstance(one, CodeType) else self.told(one)

    def _beside(self, cells: Sequence[Any]) -> Iterator[bytes]:
        """Yield what a library's wrapper holds, functions and plain data, as far as it is told."""
        for one in cells:
            if isinstance(one, (FunctionType, *PLAIN, *SEVERAL, *PAIRS)):
                with suppress(UntoldError):
                    yield self.told(one)

    def _class(self, kind: type) -> Iterator[bytes]:
        """Yield a class's name and what it holds, with its bases of these modules."""
        yield self.name(kind)
        if kind.__module__ not in self.homes:
            return
        yield from map(self.told, kind.__mro__[1:])
        scope = _scope(kind)
        for field in vars(kind).get("__dataclass_fields__", {}).values():
            made = (field.default, field.default_factory)
            yield from (self.told(one) for one in made if one is not dataclasses.MISSING)
        for name, value in sorted(vars(kind).items()):
            code = isinstance(value, FunctionType) or _inner(value) is not None
            if not _is_pythons(name) or (code and not _is_generated(value)):
                yield from self._attribute(kind, name, value, scope)

    def _attribute(self, owner: Any, name: str, value: Any, scope: Any) -> Iterator[bytes]:
        """Yield what a class or function holds; what may be a cache is noted as a use instead."""
        if name in UNCOUNTED or _is_slot(value):
            return
        yield name.encode()
        label = f"{owner.__qualname__}.{name}"
        try:
            told = b"" if isinstance(value, CHANGING) else self.told(value)
        except UntoldError:
            told = b""
        if told:
            yield told
        else:
            self.use(owner, label, value, scope)


def _inner(value: Any) -> tuple[Any, ...] | None:
    """Return the functions, and what else there is, in a wrapper of Python's; None of others."""
    if isinstance(value, property):
        return value.fget, value.fset, value.fdel
    if isinstance(value, functools.cached_property):
        return (value.func,)
    if isinstance(value, classmethod | staticmethod):
        return (value.__func__,)
    if isinstance(value, MethodType):
        return value.__func__, value.__self__
    if isinstance(value, functools._lru_cache_wrapper):
        return (value.__wrapped__,)
    return None


def _uses(function: FunctionType, homes: set[str]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield the global values that a function's code names, and those in modules that travel."""
    scope = function.__globals__
    names = mentions.names(function.__code__)
    for name in sorted(name for name in names.globals if name in scope and not _is_pythons(name)):
        value = scope[name]
        if not isinstance(value, ModuleType):
            yield name, value, scope
        elif value.__name__ in homes:
            for inner in sorted(names.all & vars(value).keys()):
                yield f"{name}.{inner}", vars(value)[inner], vars(value)


def _text(file: object) -> bytes:
    """Return the text of a module's file; empty if there is none."""
    path = Path(str(file))
    return path.read_bytes() if path.is_file() else b""


def _scope(kind: Any) -> dict[str, Any]:
    """Return the namespace that a class, function or module is in.

    A module of the name that a class has may be another, as each conftest.py takes the last one's
    place: the class's own functions tell.
    """
    if isinstance(kind, FunctionType):
        return kind.__globals__
    for value in vars(kind).values() if isinstance(kind, type) else ():
        inner = (_inner(value) or (value,))[0]
        if isinstance(inner, FunctionType) and inner.__module__ == kind.__module__:
            return inner.__globals__
    return vars(kind if isinstance(kind, ModuleType) else sys.modules[kind.__module__])


def _is_pythons(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_generated(value: Any) -> bool:
    """Whether a method is one that ``dataclass`` wrote."""
    return isinstance(value, FunctionType) and value.__code__.co_filename == "<string>"


def _is_slot(value: Any) -> bool:
    return type(value).__name__ in ("member_descriptor", "getset_descriptor")


def _is_full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # nothing is in it yet
        return False
