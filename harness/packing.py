"""Pickle work for another process, with the code of what that process cannot import.

That is what a script or a notebook defines itself, in ``__main__``: no worker runs that again.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import Any

import cloudpickle

from harness.cell import UsageError

_caches: dict[tuple[str, int], Callable[..., Any]] = {}


def dumps(value: object, what: str) -> bytes:
    """Pickle a value as cloudpickle does, and the functions of ``__main__`` that have a cache.

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

    Their cached values stay behind; another process fills a cache of its own, once.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is made again; as pickle's own hook of this name."""
        if isinstance(obj, functools._lru_cache_wrapper) and obj.__module__ == "__main__":
            name = (obj.__wrapped__.__qualname__, id(obj))
            return _cached, (name, obj.__wrapped__, dict(obj.cache_parameters()))
        return super().reducer_override(obj)


def _cached(name: tuple[str, int], function: Callable[..., Any], parameters: dict) -> Any:
    """Return a function with a cache, the same for every task that brings it to this process."""
    return _caches.setdefault(name, functools.lru_cache(**parameters)(function))
