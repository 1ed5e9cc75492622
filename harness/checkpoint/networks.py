"""Compare a network with saved tensors, and load all of them, some, or those that fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.axes import parallel
from harness.checkpoint.tree import CheckpointError, plain


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
    """Return how saved tensors differ from the network's, both below ``prefix``."""
    state = network.state_dict()
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
    and how the others differ is returned. Raises CheckpointError if there is nothing below the
    prefix.
    """
    state = network.state_dict()
    if prefix and not (_below(state, prefix) and _below(saved, prefix)):
        raise CheckpointError(f"network or checkpoint has no tensor below {prefix!r}")
    mismatch = compare(network, saved, prefix)
    if strict and mismatch:
        raise CheckpointError(f"the network differs from the checkpoint: {mismatch}")
    with torch.no_grad():
        for name in _below(saved, prefix):
            if name in state and fits(saved[name], state[name]):
                state[name].copy_(parallel.laid_out_like(saved[name], state[name]))
    return mismatch


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
