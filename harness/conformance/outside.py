"""What a training keeps outside of its checkpoints: generators, and attributes of layers."""

from __future__ import annotations

import functools
import hashlib
import random
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from types import FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.checkpoint import digest
from harness.sources import is_librarys
from harness.training.loop import Training

MOST = 50_000  # objects that are looked at
KINDS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)

DEFAULTS = "defaults"  # of new groups of an optimizer: torch adds to them as it loads
MAPPINGS = (dict, MappingProxyType)  # another may read a file, which may be closed

KEPT = {  # attributes whose content a checkpoint has, or that a schedule of torch's notes
    *("_parameters", "_buffers", "_modules", "training", "state", "param_groups", "_opt_called"),
}


def generators(training: Training) -> dict[str, str]:
    """Return where the project's own random generators stand, by where they are held.

    Those of a checkpoint (the loop's, and the global ones of torch, Python and NumPy) are left out.
    Looked through are the topic, its batches, networks and objectives, and the globals of its code.
    """
    kept = {
        id(training.generator),
        id(torch.default_generator),
        id(getattr(random, "_inst", None)),
        id(getattr(np.random.mtrand, "_rand", None)),
    }
    found = {}
    for path, value in _reached(training):
        if isinstance(value, KINDS) and id(value) not in kept:
            found[f"{path} ({_kind(value)})"] = _position(value)
    return found


def hidden(training: Training) -> dict[str, str]:
    """Return digests of what a training keeps outside of ``state_dict``, by name.

    Generators, and plain attributes of layers, optimizers and batches.
    """
    found = generators(training) | of_layers(training.networks)
    for name, optimizer in training.optimizers.items():
        kept = attributes(optimizer)
        kept.pop(DEFAULTS, None)
        found |= {f"{type(optimizer).__name__}.{n} of {name}": kept[n] for n in kept}
    kept = attributes(training.batches)
    return found | {f"{type(training.batches).__name__}.{n}": kept[n] for n in kept}


def attributes(thing: object) -> dict[str, str]:
    """Return digests of what an object holds as plain attributes, by name; what has none is out.

    For a layer these are all that are no parameters, buffers and layers.
    """
    found = {}
    for name, value in vars(thing).items():
        if name not in KEPT and not name.endswith("_hooks"):
            try:
                found[name] = digest(_plain(value))
            except (TypeError, RecursionError):
                continue
    return found


def of_layers(networks: Mapping[str, nn.Module]) -> dict[str, str]:
    """Return digests of the layers' plain attributes and non-persistent buffers, by full name."""
    found: dict[str, str] = {}
    for key, network in networks.items():
        for name, layer in network.named_modules():
            prefix = f"{key}.{name}." if name else f"{key}."
            hidden = layer._non_persistent_buffers_set
            buffers = {n: b for n, b in layer._buffers.items() if n in hidden and b is not None}
            found |= {f"{prefix}{n}": digest(b) for n, b in buffers.items()}
            found |= {f"{prefix}{n}": value for n, value in attributes(layer).items()}
    return found


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the names whose digests differ, or that are in one of both only."""
    return [n for n in {**before, **after} if before.get(n) != after.get(n)]


def _plain(value: Any) -> Any:
    """Return a value with NumPy's arrays as tensors, and keys that can be hashed as they are."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value)).clone()
    if isinstance(value, MAPPINGS):
        return {str(k) if isinstance(k, Tensor) else k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | deque):
        return [_plain(v) for v in value]
    return value


def _reached(training: Training) -> Iterator[tuple[str, object]]:
    """Yield all objects that the topic's code can reach, each once, with where it is held."""
    waiting: deque[tuple[str, Any]] = deque()
    waiting.append(("topic", training.topic))
    waiting.append(("batches", training.batches))
    waiting += [(name, network) for name, network in training.networks.items()]
    waiting += [(p.name, p.objective) for p in training.players]
    waiting += [(name, m) for name, m in list(sys.modules.items()) if _is_own(m)]
    seen: set[int] = set()
    while waiting and len(seen) < MOST:
        path, value = waiting.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield path, value
        waiting += _parts(path, value)


def _parts(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object holds, with where that is."""
    if isinstance(value, MAPPINGS):
        yield from ((f"{path}[{key!r:.40}]", part) for key, part in list(value.items()))
    elif isinstance(value, list | tuple | set | frozenset | deque):
        if len(value) < 1000:
            yield from ((f"{path}[{n}]", part) for n, part in enumerate(list(value)))
    elif isinstance(value, MethodType):
        yield path, value.__self__
        yield path, value.__func__
    elif isinstance(value, functools.partial):
        yield from ((path, part) for part in (value.func, value.args, value.keywords))
    elif isinstance(value, FunctionType):
        code = value.__code__
        own = [name for name in code.co_names if name in value.__globals__]
        if _is_own_name(value.__module__):
            yield from ((f"{value.__module__}.{n}", value.__globals__[n]) for n in own)
        for name, cell in zip(code.co_freevars, value.__closure__ or (), strict=True):
            try:
                yield f"{path}.{name}", cell.cell_contents
            except ValueError:
                continue
    elif isinstance(value, type):
        if _is_own_name(value.__module__):
            yield from ((f"{value.__name__}.{n}", v) for n, v in list(vars(value).items()))
    elif isinstance(value, ModuleType):
        if _is_own(value):
            yield from ((f"{value.__name__}.{n}", v) for n, v in list(vars(value).items()))
    elif not isinstance(value, (Tensor, np.ndarray, *KINDS)) and _may_hold(value):
        yield f"{path}", type(value)
        yield from ((f"{path}.{name}", part) for name, part in list(vars(value).items()))


def _is_own(module: object) -> bool:
    """Whether a module is the project's: neither a library's, nor Python's, nor of this package."""
    file = module.__dict__.get("__file__") if isinstance(module, ModuleType) else None
    return isinstance(file, str) and not is_librarys(file)


def _may_hold(value: object) -> bool:
    """Whether an object is looked into: one with attributes, of no library other than torch."""
    module = type(value).__module__
    known = module.split(".")[0] in ("torch", "harness") or _is_own_name(module)
    return known and hasattr(value, "__dict__")


def _is_own_name(name: str | None) -> bool:
    module = sys.modules.get(name or "")
    return module is None or _is_own(module)  # what came with its code is in no file here


def _kind(generator: object) -> str:
    module = type(generator).__module__.split(".")[0]
    return f"{module}.{type(generator).__name__}".removeprefix("torch._C.")


def _position(generator: Any) -> str:
    """Return a digest of a generator's state."""
    if isinstance(generator, torch.Generator):
        return digest(generator.get_state())
    if isinstance(generator, random.Random):
        return hashlib.sha256(repr(generator.getstate()).encode()).hexdigest()
    if isinstance(generator, np.random.RandomState):
        return hashlib.sha256(repr(generator.get_state(legacy=False)).encode()).hexdigest()
    return hashlib.sha256(repr(generator.bit_generator.state).encode()).hexdigest()
