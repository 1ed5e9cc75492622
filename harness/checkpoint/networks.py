"""Compare a network with saved tensors, and load all of them, some, or those that fit."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.axes import parallel
from harness.checkpoint.tree import CheckpointError, plain

WRAPPERS = ("_orig_mod", "module")  # what torch.compile and DDP put before the names of tensors


@dataclass(frozen=True)
class Mismatch:
    """How saved tensors differ from a network's; false if they do not.

    missing: names that only the network has; unexpected: names that only the checkpoint has;
    reshaped: names in both whose shape or dtype differs, with both.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        parts = (f"{kind} {', '.join(names)}" for kind, names in vars(self).items() if names)
        return "; ".join(parts) or "no difference"


def compare(network: nn.Module, saved: Mapping[str, Tensor], prefix: str = "") -> Mismatch:
    """Return how saved tensors differ from the network's, both below ``prefix``.

    Names count without what torch.compile and DDP put before them (``named_as``).
    """
    state = network.state_dict()
    saved = named_as(state, saved)
    own, there = _below(state, prefix), _below(saved, prefix)
    return Mismatch(
        missing=tuple(name for name in own if name not in saved),
        unexpected=tuple(name for name in there if name not in state),
        reshaped=tuple(
            f"{name} ({shape_of(saved[name])} saved, {shape_of(state[name])} here)"
            for name in own
            if name in saved and not fits(saved[name], state[name])
        ),
    )


def load_network(
    network: nn.Module, saved: Mapping[str, Tensor], *, strict: bool = True, prefix: str = ""
) -> Mismatch:
    """Copy the saved tensors below ``prefix`` (a module's name; all if empty) into the network.

    strict: all must fit, else CheckpointError and no change. Otherwise those that fit are copied,
    and how the others differ is returned. Tensors saved of a network that torch.compile or DDP had
    wrapped are taken for the plain one's, and the other way round, with a warning that says so.
    Raises CheckpointError if there is nothing below the prefix.
    """
    state, names = network.state_dict(), list(saved)
    saved = named_as(state, saved)
    if prefix and not (_below(state, prefix) and _below(saved, prefix)):
        raise CheckpointError(f"network or checkpoint has no tensor below {prefix!r}")
    mismatch = compare(network, saved, prefix)
    if strict and mismatch:
        raise CheckpointError(f"the network differs from the checkpoint: {mismatch}")
    with torch.no_grad():
        for name in _below(saved, prefix):
            if name in state and fits(saved[name], state[name]):
                state[name].copy_(parallel.laid_out_like(saved[name], state[name]))
    if renamed := [(old, new) for old, new in zip(names, saved, strict=True) if old != new]:
        old, new = renamed[0]
        warnings.warn(
            f"{len(renamed)} tensors were saved of a network wrapped in another way: {old} was "
            f"taken for {new}, and so on",
            stacklevel=2,
        )
    return mismatch


def named_as(state: Mapping[str, object], saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return saved tensors, in their order, under the names that they have in a network's state.

    They may differ in parts that a wrapper adds, which are in WRAPPERS. A name that is in the state
    as it is, or that does not stand for exactly one tensor on either side, stays.
    """
    own, there = Counter(map(unwrapped, state)), Counter(map(unwrapped, saved))
    name_of = {unwrapped(name): name for name in state}
    plain_names = {
        name: name_of[bare]
        for name, bare in ((name, unwrapped(name)) for name in saved)
        if name not in state and own[bare] == there[bare] == 1
    }
    return {plain_names.get(name, name): tensor for name, tensor in saved.items()}


def unwrapped(name: str) -> str:
    """Return a tensor's name without the parts that wrappers add: ``_orig_mod.a.b`` is ``a.b``."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def partial(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Copy the network's tensors below ``prefix`` to the CPU, under their full names.

    ``load_network`` with the same prefix takes them back. Raises CheckpointError if there are none.
    """
    state = network.state_dict()
    if not (names := _below(state, prefix)):
        raise CheckpointError(f"the network has no tensor below {prefix!r}")
    return {name: plain(state[name]) for name in names}


def _below(names: Iterable[str], prefix: str) -> list[str]:
    """Return the names that are ``prefix`` or lie below it; all names if it is empty."""
    stem = prefix.rstrip(".")
    return [n for n in names if not stem or n == stem or n.startswith(f"{stem}.")]


def fits(saved: object, own: object) -> bool:
    """Whether both values are tensors of the same shape and dtype."""
    both = isinstance(saved, Tensor) and isinstance(own, Tensor)
    return both and shape_of(saved) == shape_of(own)


def shape_of(value: object) -> str:
    """Return a tensor's shape and dtype as text, or another value's type."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}"
