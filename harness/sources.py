"""Find where code is written, without importing it."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

HERE = Path(__file__).parent
STDLIB = Path(ast.__file__).resolve().parent
INSTALLED = ("site-packages", "dist-packages")

_taken: dict[Path, tuple[list[object], bytes]] = {}  # a module's code objects, and its text then


def is_own(module: str) -> bool:
    """Whether a module is a project's own: no part of this package, of Python, nor installed."""
    if module in sys.builtin_module_names or module.split(".")[0] == __name__.split(".")[0]:
        return False
    file = file_of(module)
    if file is None:  # a notebook's; other modules without a file are C's
        return module == "__main__"
    return installed_in(file) is None and not file.is_relative_to(STDLIB)


@cache
def is_librarys(file: str) -> bool:
    """Whether a file is an installed package's, Python's or this package's, and not a project's."""
    path = Path(file).resolve()
    return not {*INSTALLED}.isdisjoint(path.parts) or any(
        path.is_relative_to(folder) for folder in (STDLIB, HERE.resolve())
    )


def has_file(kind: Any) -> bool:
    """Whether a class or function is written in a file; in a notebook or at a prompt it is not.

    Nor is one whose module has another in its place by now, as after ``importlib.reload``.
    """
    return origin(kind) is not None


def origin(kind: Any) -> Path | None:
    """Return the file that a class or function is written in; None if it is in none."""
    scope = _scope(kind)
    return _existing(scope.get("__file__")) if scope else None


def text_of(kind: Any, file: Path) -> bytes:
    """Return the text of a class's or function's file, of when what is in memory was loaded.

    That is what trains, for it travels by value. A file that is edited and not loaded again has the
    text that it had when it was first asked for.
    """
    scope = _scope(kind) or {}
    own = [one for one in [*scope.values()] if home_of(one) == kind.__module__]
    codes = [function.__code__ for one in own for function in _functions(one)]
    state = [scope.get("__spec__"), *codes]  # the first is another after a reload
    before, text = _taken.get(file, ([], b""))
    if len(before) != len(state) or any(a is not b for a, b in zip(before, state, strict=True)):
        text = file.read_bytes()
        _taken[file] = (state, text)
    return text


def forget() -> None:
    """Have places looked up anew: in a notebook they may have changed since the last run."""
    for looked in (file_of, _existing):
        looked.cache_clear()


def is_projects(path: Path) -> bool:
    """Whether a file is a module of a project, and not of an installed package."""
    return path.suffix == ".py" and not path.is_relative_to(HERE) and installed_in(path) is None


def home_of(value: object) -> str:
    """Return the name of the module that a class or function is of; empty for other values."""
    return str(getattr(value, "__module__", None) or "")


@cache
def file_of(module: str) -> Path | None:
    """Return the file of a module, without importing it; None if it has none or does not exist."""
    if module in sys.modules:
        file = getattr(sys.modules[module], "__file__", None)
    else:
        package = module.rpartition(".")[0]
        where = _folders(package) if package else None
        spec = PathFinder.find_spec(module, where) if where or not package else None
        file = spec.origin if spec and spec.has_location else None
    return _existing(file)


def installed_in(path: Path) -> Path | None:
    """Return the folder (or file) of the installed package that a file is of; None if of none."""
    for index, part in enumerate(path.parts):
        if part in INSTALLED:
            return Path(*path.parts[: index + 2])
    return None


def _scope(kind: Any) -> Mapping[str, Any] | None:
    """Return the namespace of the module in whose file a class or function is written, if any.

    Not by the module's name, which several may have: every conftest.py outside of packages is
    ``conftest``, and ``sys.modules`` has the last. But what has no code of its own is looked up.
    """
    kind = kind if hasattr(kind, "__qualname__") else type(kind)
    module, found = sys.modules.get(kind.__module__), named(kind)
    for function in _functions(kind):
        scope = function.__globals__
        if scope.get("__name__") != kind.__module__:
            continue
        typed = function.__code__.co_filename
        if typed.startswith("<") and typed != "<string>":  # at a prompt; of a dataclass generated
            return None
        again = getattr(found, "__qualname__", None) == kind.__qualname__ and _codes(found)
        return None if again and scope is vars(module) and again != _codes(kind) else scope
    return vars(module) if module and (found is kind or "<locals>" in kind.__qualname__) else None


def named(kind: Any) -> Any:
    """Return what a class's or function's module has under its name; None if nothing."""
    found: Any = sys.modules.get(kind.__module__)
    for name in getattr(kind, "__qualname__", "").split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return found


def _functions(kind: Any) -> Iterator[FunctionType]:
    """Yield the functions that a class has itself, or that a function is, out of their wrappers."""
    for one in [*vars(kind).values()] if isinstance(kind, type) else [kind]:
        inner = _unwrapped(one)
        if isinstance(inner, FunctionType):
            yield inner


def _codes(kind: Any) -> set[CodeType]:
    return {function.__code__ for function in _functions(kind)}


def _unwrapped(value: Any) -> Any:
    """Return the function in a property, a method or wrappers; any other value as it is."""
    if isinstance(value, property):
        value = value.fget
    elif isinstance(value, functools.cached_property):
        value = value.func
    elif isinstance(value, classmethod | staticmethod | MethodType):
        value = value.__func__
    wrapper = isinstance(value, FunctionType | functools._lru_cache_wrapper)
    return inspect.unwrap(value) if wrapper else value


@cache
def _existing(file: str | None) -> Path | None:
    """Return a file's place, links resolved; None if it is not there."""
    return Path(file).resolve() if file and Path(file).is_file() else None


def _folders(package: str) -> Sequence[str]:
    """Return the folders of a package's modules, without importing it; none if it is no package."""
    if package in sys.modules:
        return list(getattr(sys.modules[package], "__path__", []))
    above = package.rpartition(".")[0]
    where = _folders(above) if above else None
    spec = PathFinder.find_spec(package, where) if where or not above else None
    return list(spec.submodule_search_locations or []) if spec else []
