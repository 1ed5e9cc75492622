"""Pickle work for another process, with the code of what that process cannot import.

That is what a script or a notebook defines itself, in ``__main__``, for no worker runs that again,
and what modules define that cloudpickle is told to take by value, such as a conftest.
"""

from __future__ import annotations

import functools
import inspect
import io
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import cloudpickle

from harness import sources
from harness.cell import UsageError

_caches: dict[tuple[str, int], Callable[..., Any]] = {}


def dumps(value: object, what: str) -> bytes:
    """Pickle a value as cloudpickle does, and the functions beside it that have a cache.

    what: it is called so in the UsageError for what no other process can be given.
    """
    buffer = io.BytesIO()
    try:
        _Pickler(buffer).dump(value)
    except Exception as error:  # of any type: it is what some __reduce__ raises
        raise UsageError(f"{what} cannot be sent to another process: {error}") from error
    return buffer.getvalue()


class _Pickler(cloudpickle.CloudPickler):
    """Takes along functions under ``functools.cache``, which cloudpickle looks up in their module.

    Their cached values stay behind; another process fills a cache of its own, once. So does what
    pickle keeps in a class of which it has seen an instance, so that it is packed alike each time.
    Code keeps the name of its file, which cloudpickle drops (3.1.3), for messages and tracebacks.
    Functions take along what classes that they define use in their bodies.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is made again; as pickle's own hook of this name."""
        if isinstance(obj, functools._lru_cache_wrapper) and _is_taken(obj):
            name = (getattr(obj.__wrapped__, "__qualname__", ""), id(obj))
            return _cached, (name, obj.__wrapped__, dict(obj.cache_parameters()))
        if isinstance(obj, type) and "__slotnames__" in vars(obj):
            del obj.__slotnames__  # type: ignore[attr-defined]
        if isinstance(obj, CodeType):
            return _code, (obj.co_filename, *self.dispatch_table[CodeType](obj))
        made = super().reducer_override(obj)
        if isinstance(obj, FunctionType) and made is not NotImplemented:
            taken = made[2][1]["__globals__"]  # of what its code and inner functions name
            for used in sorted({*_in_class_bodies(obj.__code__)} & obj.__globals__.keys()):
                taken.setdefault(used, obj.__globals__[used])
        return made


def _in_class_bodies(code: CodeType) -> Iterator[str]:
    """Yield the names that the bodies of classes inside a function use."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if not inner.co_flags & inspect.CO_OPTIMIZED:
                yield from inner.co_names
            yield from _in_class_bodies(inner)


def _is_taken(function: Any) -> bool:
    """Whether another process may not find a function under its name.

    Its module is taken by value, or has something else there: another conftest.py may stand under
    the name of the one that the function is of.
    """
    parts = function.__module__.split(".")
    above = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    if above & {"__main__", *cloudpickle.list_registry_pickle_by_value()}:
        return True
    return sources.named(function) is not function


def _cached(name: tuple[str, int], function: Callable[..., Any], parameters: dict) -> Any:
    """Return a function with a cache, the same for every task that brings it to this process."""
    return _caches.setdefault(name, functools.lru_cache(**parameters)(function))


def _code(file: str, build: Callable[..., CodeType], parts: tuple[Any, ...]) -> CodeType:
    """Return code made again of its parts, of a file by its own name."""
    return build(*parts).replace(co_filename=file)
