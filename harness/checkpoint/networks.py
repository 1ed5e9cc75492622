"""Compare a network with its saved state, and load all of that, a part, or what fits.

A state is a network's parameters and buffers, and what its modules add by ``get_extra_state``.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from harness.axes import parallel
from harness.checkpoint.tree import CheckpointError, digest, plain

WRAPPERS = ("_orig_mod", "module")  # what torch.compile and DDP put before the names of tensors
EXTRA = "_extra_state"  # the name that torch gives to what a module's get_extra_state returns


@dataclass(frozen=True)
class Mismatch:
    """How a saved state differs from a network's; false if it does not.

    missing: names that only the network has; unexpected: names that only the checkpoint has;
    reshaped: names in both whose shape or dtype differs, with both. Extra states may be anything:
    only their names count.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        parts = (f"{kind} {', '.join(names)}" for kind, names in vars(self).items() if names)
        return "; ".join(parts) or "no difference"


def compare(network: nn.Module, saved: Mapping[str, Any], prefix: str = "") -> Mismatch:
    """Return how a saved state differs from the network's, both below ``prefix``.

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
            if name in saved and not _can_take(name, saved[name], state[name])
        ),
    )


def load_network(
    network: nn.Module, saved: Mapping[str, Any], *, strict: bool = True, prefix: str = ""
) -> Mismatch:
    """Copy the saved state below ``prefix`` (a module's name; all if empty) into the network.

    strict: all must fit, else CheckpointError and no change. Otherwise what fits is copied, and how
    the rest differs is returned. Tensors saved of a network that torch.compile or DDP had wrapped
    are taken for the plain one's, and the other way round, with a warning that says so. Raises
    CheckpointError, with no change, if there is nothing below the prefix, or if a module does not
    take its part: extra state goes to its ``set_extra_state``.
    """
    state = network.state_dict()
    if prefix and not (_below(state, prefix) and _below(named_as(state, saved), prefix)):
        raise CheckpointError(f"network or checkpoint has no tensor below {prefix!r}")
    mismatch = compare(network, saved, prefix)
    if strict and mismatch:
        raise CheckpointError(f"the network differs from the checkpoint: {mismatch}")
    with unchanged_on_error([network]):
        put(network, saved, prefix)
    return mismatch


def put(network: nn.Module, saved: Mapping[str, Any], prefix: str = "") -> None:
    """Copy what fits of the saved state below ``prefix`` into the network.

    Warns as ``load_network`` does. Raises CheckpointError if a module does not take its part, which
    may leave the network halfway.
    """
    state, names = network.state_dict(), list(saved)
    saved = named_as(state, saved)
    fitting = {
        name: plain(saved[name])
        if _is_extra(name)
        else parallel.laid_out_like(saved[name], state[name])
        for name in _below(saved, prefix)
        if name in state and _can_take(name, saved[name], state[name])
    }
    _take(network, fitting)
    if renamed := [(old, new) for old, new in zip(names, saved, strict=True) if old != new]:
        old, new = renamed[0]
        warnings.warn(
            f"{len(renamed)} tensors were saved of a network wrapped in another way: {old} was "
            f"taken for {new}, and so on",
            stacklevel=3,
        )


@contextmanager
def unchanged_on_error(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Give networks the states back that they had before the block, if it raises."""
    before = [(network, plain(network.state_dict())) for network in networks]
    try:
        yield
    except Exception:
        for network, state in before:
            with suppress(CheckpointError):  # a module that takes no state at all
                _take(network, state)
        raise


def _take(network: nn.Module, values: Mapping[str, Any]) -> None:
    """Let a network's modules take values that have names of its state.

    Raises CheckpointError if one fails, which may leave a part of them, or if none takes a value.
    """
    state = network.state_dict()  # it knows its modules' versions, as values do not
    for name in [name for name in state if name not in values]:
        del state[name]
    state.update(values)
    try:
        ignored = network.load_state_dict(state, strict=False).unexpected_keys
        now = network.state_dict()
        lost = [name for name in ignored if digest(now[name]) != digest(values[name])]
    except Exception as error:  # set_extra_state and hooks are anybody's
        line = next(iter(str(error).splitlines()), "")
        raise CheckpointError(
            f"the network does not take its saved state: {type(error).__name__}: {line}"
        ) from error
    if lost:
        raise CheckpointError(
            f"nothing in the network takes {', '.join(lost)}: a module that has get_extra_state "
            "needs set_extra_state"
        )


def named_as(state: Mapping[str, object], saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return saved values, in their order, under the names that they have in a network's state.

    They may differ in parts that a wrapper adds, which are in WRAPPERS. A name that is in the state
    as it is, or that does not stand for exactly one value on either side, stays.
    """
    own, there = Counter(map(unwrapped, state)), Counter(map(unwrapped, saved))
    name_of = {unwrapped(name): name for name in state}
    plain_names = {
        name: name_of[bare]
        for name, bare in ((name, unwrapped(name)) for name in saved)
        if name not in state and own[bare] == there[bare] == 1
    }
    return {plain_names.get(name, name): value for name, value in saved.items()}


def unwrapped(name: str) -> str:
    """Return a tensor's name without the parts that wrappers add: ``_orig_mod.a.b`` is ``a.b``."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def partial(network: nn.Module, prefix: str) -> dict[str, Any]:
    """Copy the network's state below ``prefix`` to the CPU, under its full names.

    ``load_network`` with the same prefix takes it back. Raises CheckpointError if there is none.
    """
    state = network.state_dict()
    if not (names := _below(state, prefix)):
        raise CheckpointError(f"the network has no tensor below {prefix!r}")
    return {name: plain(state[name]) for name in names}


def _below(names: Iterable[str], prefix: str) -> list[str]:
    """Return the names that are ``prefix`` or lie below it; all names if it is empty."""
    stem = prefix.rstrip(".")
    return [n for n in names if not stem or n == stem or n.startswith(f"{stem}.")]


def _can_take(name: str, saved: object, own: object) -> bool:
    """Whether a network can take a value in the place of its own: one that fits, or extra state."""
    return _is_extra(name) or fits(saved, own)


def _is_extra(name: str) -> bool:
    """Whether a name in a network's state is that of a module's extra state."""
    return name.rpartition(".")[2] == EXTRA


def fits(saved: object, own: object) -> bool:
    """Whether both values are tensors of the same shape and dtype."""
    both = isinstance(saved, Tensor) and isinstance(own, Tensor)
    return both and shape_of(saved) == shape_of(own)


def shape_of(value: object) -> str:
    """Return a tensor's shape and dtype as text, or another value's type."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}"
