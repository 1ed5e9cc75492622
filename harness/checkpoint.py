"""Checkpoints (note 100): saved whole, loaded safely, checked before anything in memory changes."""

from __future__ import annotations

import hashlib
import io
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from harness.store import write_atomically

FORMAT = "decathlon-checkpoint"
VERSION = 2


class CheckpointError(Exception):
    """The one error of a bad checkpoint: a line that says what is wrong. Nothing was changed."""


@dataclass(frozen=True)
class Mismatch:
    """How saved tensors differ from a network: names missing, unexpected, and reshaped."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        return "; ".join(
            f"{kind} {', '.join(names)}" for kind, names in vars(self).items() if names
        )


def digest(tree: object) -> str:
    """Hex SHA-256 over nested dicts, lists and tuples of tensors and plain values, bit for bit."""
    sha = hashlib.sha256()
    _feed(sha, tree)
    return sha.hexdigest()


def _feed(sha: Any, value: object) -> None:
    if isinstance(value, Tensor):
        sha.update(f"t{value.dtype}{tuple(value.shape)}".encode())
        if value.numel():
            flat = value.detach().cpu().contiguous().reshape(-1)
            sha.update(flat.view(torch.uint8).numpy())
    elif isinstance(value, Mapping):
        sha.update(f"d{len(value)}".encode())
        for key in sorted(value, key=lambda key: (type(key).__name__, key)):
            _feed(sha, key)
            _feed(sha, value[key])
    elif isinstance(value, list | tuple):
        sha.update(f"{type(value).__name__}{len(value)}".encode())
        for item in value:
            _feed(sha, item)
    elif isinstance(value, float):
        sha.update(b"f" + struct.pack("<d", value))
    elif isinstance(value, str | bytes):
        raw = value.encode() if isinstance(value, str) else value
        sha.update(f"{type(value).__name__}{len(raw)}:".encode() + raw)
    elif value is None or isinstance(value, bool | int):
        sha.update(f"{type(value).__name__}{value};".encode())
    else:
        raise TypeError(f"{type(value).__name__} has no place in a checkpoint")


def plain(value: Any) -> Any:
    """A copy on the CPU that holds nothing but plain containers, plain values and tensors."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Counter):  # MultiStepLR's milestones, which load_state_dict takes as such
        return Counter(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    return value


def snapshot(
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    schedules: Mapping[str, Any],
    **rest: Any,
) -> dict[str, Any]:
    """The content to save, copied, so that training can go on."""
    return {
        "networks": {name: plain(network.state_dict()) for name, network in networks.items()},
        "optimizers": {
            name: {"kind": _kind(optimizer), "state": plain(optimizer.state_dict())}
            for name, optimizer in optimizers.items()
        },
        "schedules": {
            name: {"kind": _kind(schedule), "state": plain(schedule.state_dict())}
            for name, schedule in schedules.items()
        },
        **plain(rest),
    }


def save(path: Path, content: Mapping[str, Any]) -> int:
    """Write atomically; returns the bytes. torch.load(path, weights_only=True) reads it too."""
    buffer = io.BytesIO()
    sealed = {**content, "format": FORMAT, "version": VERSION, "sha256": digest(content)}
    torch.save(sealed, buffer)
    write_atomically(path, buffer.getvalue())
    return buffer.tell()


def load(path: Path) -> dict[str, Any]:
    """The content, in this version's form, on the CPU. Raises CheckpointError for anything else.

    Only tensors and plain values are read (weights_only): a file cannot run code.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file") from None
    except Exception as error:  # six different types for six kinds of damage
        what = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} cannot be read: {what[:200]}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no {FORMAT}")
    version = content.pop("version", None)
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise CheckpointError(f"{path} has version {version!r}; this program reads 1 to {VERSION}")
    content.pop("format")
    expected = content.pop("sha256", None)
    try:
        intact = digest(content) == expected
    except TypeError:
        intact = False
    if not intact:
        raise CheckpointError(f"{path} is damaged: its content does not match its SHA-256")
    for old in range(version, VERSION):
        content = MIGRATIONS[old](content)
    return content


def _from_version_1(content: dict[str, Any]) -> dict[str, Any]:
    """Version 1 held one network's tensors under ``model`` and nothing to resume from."""
    rest = {key: value for key, value in content.items() if key != "model"}
    return {"optimizers": {}, "schedules": {}, **rest, "networks": {"model": content["model"]}}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_version_1}


def compare(network: nn.Module, saved: Mapping[str, Tensor], prefix: str = "") -> Mismatch:
    """What keeps ``saved`` from fitting the part of the network below ``prefix``."""
    own = {name: t for name, t in network.state_dict().items() if name.startswith(prefix)}
    shapes = {
        name: f"{name} ({_shape(saved[name])} saved, {_shape(tensor)} here)"
        for name, tensor in own.items()
        if name in saved and _shape(saved[name]) != _shape(tensor)
    }
    return Mismatch(
        tuple(name for name in own if name not in saved),
        tuple(name for name in saved if name not in own),
        tuple(shapes.values()),
    )


def load_network(
    network: nn.Module, saved: Mapping[str, Tensor], *, strict: bool = True, prefix: str = ""
) -> Mismatch:
    """Copy saved tensors in. strict: all must fit, else CheckpointError and no change;
    otherwise those that fit are taken and the rest is returned by name.
    """
    mismatch = compare(network, saved, prefix)
    if strict and mismatch:
        raise CheckpointError(f"the network differs from the checkpoint: {mismatch}")
    own = network.state_dict()
    with torch.no_grad():
        for name, tensor in saved.items():
            fits = name.startswith(prefix) and name in own
            if fits and _shape(own[name]) == _shape(tensor):
                own[name].copy_(tensor)
    return mismatch


def partial(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    """The tensors below ``prefix``, to be saved alone and loaded with the same prefix."""
    state = network.state_dict()
    return {name: plain(tensor) for name, tensor in state.items() if name.startswith(prefix)}


def validate(
    content: Mapping[str, Any],
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    schedules: Mapping[str, Any],
) -> None:
    """Raises CheckpointError unless everything fits. Changes nothing."""
    for part, own in (
        ("networks", networks),
        ("optimizers", optimizers),
        ("schedules", schedules),
    ):
        if set(content.get(part, ())) != set(own):
            raise CheckpointError(
                f"the checkpoint's {part} are {sorted(content.get(part, ()))}, not {sorted(own)}"
            )
    for name, network in networks.items():
        if mismatch := compare(network, content["networks"][name]):
            raise CheckpointError(f"network {name} differs from the checkpoint: {mismatch}")
    for name, thing in {**optimizers, **schedules}.items():
        part = "optimizers" if optimizers.get(name) is thing else "schedules"
        _same_kind(name, content[part][name]["kind"], _kind(thing))
    for name, schedule in schedules.items():
        _same_kind(name, content["schedules"][name]["kind"], _kind(schedule))
    for name, optimizer in optimizers.items():
        _fits_optimizer(name, content["optimizers"][name]["state"], optimizer)


def restore(
    content: Mapping[str, Any],
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    schedules: Mapping[str, Any],
) -> None:
    """Validate, then load everything in place. Raises CheckpointError with nothing changed."""
    validate(content, networks, optimizers, schedules)
    for name, network in networks.items():
        load_network(network, content["networks"][name])
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(plain(content["optimizers"][name]["state"]))
    for name, schedule in schedules.items():
        schedule.load_state_dict(plain(content["schedules"][name]["state"]))


def _same_kind(name: str, saved: str, own: str) -> None:
    if saved != own:
        raise CheckpointError(f"{name}: the checkpoint holds a {saved}, this is a {own}")


def _fits_optimizer(name: str, state: Mapping[str, Any], optimizer: Optimizer) -> None:
    own = [len(group["params"]) for group in optimizer.param_groups]
    saved = [len(group["params"]) for group in state["param_groups"]]
    if own != saved:
        raise CheckpointError(f"optimizer {name}: groups of {saved} parameters, here {own}")
    flat = [p for group in optimizer.param_groups for p in group["params"]]
    for index, values in state["state"].items():
        for key, tensor in values.items():
            if isinstance(tensor, Tensor) and tensor.ndim and tensor.shape != flat[index].shape:
                raise CheckpointError(
                    f"optimizer {name}: {key} of parameter {index} is {tuple(tensor.shape)}, "
                    f"its parameter {tuple(flat[index].shape)}"
                )


def _kind(thing: Any) -> str:
    parts = getattr(thing, "_schedulers", ())
    return type(thing).__name__ + (f"({', '.join(map(_kind, parts))})" if parts else "")


def _shape(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
