"""Tell values from others by their content: data of any kind, the same in every process."""

from __future__ import annotations

import collections
import copyreg
import functools
import hashlib
import os
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

import numpy as np

PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes, bytearray, range, slice)
SEVERAL = (list, tuple, collections.deque)
PAIRS = (dict, MappingProxyType, collections.OrderedDict, collections.defaultdict)
DRAWN = (random.Random, np.random.Generator, np.random.RandomState, np.random.BitGenerator)
GENERATOR = b"torch._C.Generator"


class UntoldError(Exception):
    """A value changes by use, or has no content that could be hashed. Its type is the argument."""


class Contents:
    """Hashes values by what is in them, whatever their addresses and the order of sets.

    folders: of a place in one of them counts where it is in there.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        found = {f"{folder}{os.sep}" for folder in folders}
        self._folders = sorted(found, key=lambda folder: (-len(folder), folder))
        self._known: dict[int, tuple[object, bytes]] = {}
        self._within: set[int] = set()

    def told(self, value: Any) -> bytes:
        """Return what tells a value from others. Raises UntoldError if nothing does."""
        if type(value) in PLAIN:
            return f"{type(value).__name__} {self._plain(value)}".encode(errors="backslashreplace")
        if id(value) in self._known:
            return self._known[id(value)][1]
        if id(value) in self._within:
            return b"again"
        self._within.add(id(value))
        try:
            parts = [self.name(type(value)), *self.parts(value)]
            told = hashlib.sha256(joined(parts)).digest()
        except UntoldError:
            raise
        except Exception as error:  # of any type: it is what some __reduce__ raises
            raise UntoldError(type(value).__name__) from error
        finally:
            self._within.discard(id(value))
        self._known[id(value)] = value, told
        return told

    def _plain(self, value: Any) -> str:
        if isinstance(value, int):
            return hex(value)
        return repr(self._moved(value) if type(value) is str else value)

    def _moved(self, text: str) -> str:
        """Return a place as seen from its module's folder, if it is in there."""
        for folder in self._folders:
            if f"{text}{os.sep}".startswith(folder):
                return f"\0{text[len(folder) :]}"
        return text

    def name(self, value: Any) -> bytes:
        """Return the name of a class, function or module, with its module's."""
        module = getattr(value, "__module__", None) or ""
        return f"{module}.{getattr(value, '__qualname__', value.__name__)}".encode()

    def parts(self, value: Any) -> Iterator[bytes]:
        """Yield the parts of a value that is not plain."""
        if type(value) is np.ndarray:
            yield f"{value.dtype.str} {value.dtype.descr} {value.shape}".encode()
            plain = not value.dtype.hasobject
            yield value.tobytes() if plain else self.told(value.ravel().tolist())
        elif (content := _tensor(value)) is not None:
            yield from content
        elif type(value) in PAIRS:
            yield self.told(getattr(value, "default_factory", None))
            for pair in value.items():
                yield from map(self.told, pair)
        elif type(value) in SEVERAL:
            yield from map(self.told, value)
        elif isinstance(value, set | frozenset):
            yield from sorted(map(self.told, value))
        elif isinstance(value, PurePath):
            yield self._moved(str(value)).encode(errors="surrogateescape")
        elif isinstance(value, (Iterator, *DRAWN)) or self.name(type(value)) == GENERATOR:
            raise UntoldError(type(value).__name__)
        else:
            yield from self._object(value)

    def _object(self, value: Any) -> Iterator[bytes]:
        """Yield what pickle would make an object again of, but for what it has computed lazily."""
        reduce = copyreg.dispatch_table.get(type(value))
        made = reduce(value) if reduce else value.__reduce_ex__(4)
        if isinstance(made, str):
            yield made.encode()
            return
        function, arguments, state, *items = [*made, None, None, None][:5]
        if isinstance(state, dict):
            lazy = {n for kind in type(value).__mro__ for n, v in vars(kind).items() if _is_lazy(v)}
            state = {name: one for name, one in state.items() if name not in lazy} or None
        yield from map(self.told, (function, arguments, state))
        yield from (self.told(list(some)) for some in items if some is not None)


def joined(parts: Iterable[bytes]) -> bytes:
    """Return parts as one, in which each can be told from the next."""
    return b"".join(b"%d;%b" % (len(part), part) for part in parts)


def _tensor(value: Any) -> list[bytes] | None:
    """Return what is in a tensor of PyTorch; None of anything else. Nothing is imported for it."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        return None
    flat = value.detach().cpu().resolve_conj().resolve_neg().contiguous().flatten()
    about = f"{value.dtype} {tuple(value.shape)} {value.requires_grad}"
    return [about.encode(), flat.view(torch.uint8).numpy().tobytes()]


def _is_lazy(value: Any) -> bool:
    return isinstance(value, functools.cached_property)
