"""Checkpoints (note 100): saved whole, loaded safely, checked before anything in memory changes."""

from __future__ import annotations

import hashlib
import os
import struct
import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

FORMAT = "decathlon-checkpoint"
VERSION = 2
SEAL = ("format", "version", "sha256")  # what save adds to the content and load takes off
SCALARS = ("step", "eta", "mu", "mu_product")  # optimizer state without its parameter's shape


class CheckpointError(Exception):
    """The one error of this module: a line that says what is wrong. Nothing was changed."""


@dataclass(frozen=True)
class Mismatch:
    """How saved tensors differ from a network's: false if they do not.

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


def digest(tree: object) -> str:
    """Hex SHA-256 over nested dicts, lists and tuples of tensors and plain values, bit for bit.

    Neither the order of a dict nor a tensor's device or strides counts. Raises TypeError for
    what ``torch.load(weights_only=True)`` would not bring back as it is.
    """
    sha = hashlib.sha256()
    _feed(sha, tree)
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    kind = type(value)  # exact: NumPy's float64 is a float, but one that weights_only refuses
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise TypeError("a sparse, quantized or meta tensor has no place in a checkpoint")
        sha.update(f"tensor {value.dtype} {list(value.shape)};".encode())
        if value.numel():
            flat = value.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
            sha.update(flat.view(torch.uint8).numpy())
    elif kind in (dict, OrderedDict, Counter):
        sha.update(f"dict {len(value)};".encode())
        for key in sorted(value, key=digest):
            _feed(sha, key)
            _feed(sha, value[key])
    elif kind in (list, tuple):
        sha.update(f"{kind.__name__} {len(value)};".encode())
        for item in value:
            _feed(sha, item)
    elif kind is float:
        sha.update(b"float;" + struct.pack("<d", value))
    elif kind is bytes and not value:  # pickled as a call of bytes, which weights_only refuses
        raise TypeError("empty bytes have no place in a checkpoint")
    elif kind in (str, bytes):
        raw = value.encode("utf-8", "surrogatepass") if kind is str else value
        sha.update(f"{kind.__name__} {len(raw)};".encode() + raw)
    elif kind in (bool, int):
        sha.update(f"{kind.__name__} {value:x};".encode())
    elif value is None:
        sha.update(b"None;")
    else:
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} has no place in a checkpoint")


def plain(value: Any) -> Any:
    """A copy on the CPU, in plain containers; values of other types stay as they are."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Counter):  # MultiStepLR's milestones: as a dict it could not go on
        return Counter(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    return float(value) if isinstance(value, float) else value


def snapshot(
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    schedules: Mapping[str, LRScheduler],
    **rest: object,
) -> dict[str, Any]:
    """The content to save: networks, optimizers, schedules and ``rest``, copied to the CPU, so
    that training can go on.
    """
    return {
        "networks": {name: plain(network.state_dict()) for name, network in networks.items()},
        "optimizers": {name: _state(optimizer) for name, optimizer in optimizers.items()},
        "schedules": {name: _state(schedule) for name, schedule in schedules.items()},
        **plain(rest),
    }


def save(path: Path, content: Mapping[str, object]) -> int:
    """Write atomically, through to the disk; returns the bytes.

    ``torch.load(path, weights_only=True)`` reads the file too. Raises CheckpointError, and leaves
    what was at ``path``, if the content is not plain or the disk does not take it.
    """
    path = Path(path)
    if taken := [key for key in SEAL if key in content]:
        raise CheckpointError(f"{path} was not saved: the content uses the keys {taken}")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    body = {**content, "format": FORMAT, "version": VERSION}
    try:
        sealed = {**body, "sha256": digest(body)}
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            torch.save(sealed, file)
            size = file.tell()
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except Exception as error:
        raise CheckpointError(f"{path} was not saved: {_line(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return size


def load(path: Path) -> dict[str, Any]:
    """The content, in this version's form, on the CPU. Raises CheckpointError for all else.

    Only tensors and plain values are read (weights_only): a file cannot run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # six types for six kinds of damage
        raise CheckpointError(f"{path} is damaged or no checkpoint: {_line(error)}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no {FORMAT}")
    version = content.get("version")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise CheckpointError(f"{path} has version {version!r}; this program reads 1 to {VERSION}")
    expected = content.pop("sha256", None)
    try:
        intact = digest(content) == expected
    except Exception:
        intact = False
    if not intact:
        raise CheckpointError(f"{path} is damaged: its content does not match its SHA-256")
    content = {key: value for key, value in content.items() if key not in SEAL}
    try:
        for old in range(version, VERSION):
            content = MIGRATIONS[old](content)
    except Exception as error:
        raise CheckpointError(f"{path} is no whole version {old}: {_line(error)}") from error
    return content


def _from_version_1(content: dict[str, Any]) -> dict[str, Any]:
    """Version 1 held one network's tensors under ``model``, and nothing to resume from."""
    model = content.pop("model")
    return {**content, "networks": {"model": model}}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_version_1}


def compare(network: nn.Module, saved: Mapping[str, Tensor], prefix: str = "") -> Mismatch:
    """How ``saved`` differs from the network's state, both below ``prefix``. Changes nothing."""
    state = network.state_dict()
    own, there = _below(state, prefix), _below(saved, prefix)
    return Mismatch(
        missing=tuple(name for name in own if name not in saved),
        unexpected=tuple(name for name in there if name not in state),
        reshaped=tuple(
            f"{name} ({_shape(saved[name])} saved, {_shape(state[name])} here)"
            for name in own
            if name in saved and not _fits(saved[name], state[name])
        ),
    )


def load_network(
    network: nn.Module, saved: Mapping[str, Tensor], *, strict: bool = True, prefix: str = ""
) -> Mismatch:
    """Copy the saved tensors below ``prefix`` (a module's name; all if empty) into the network.

    strict: all must fit, else CheckpointError and no change. Otherwise those that fit are copied
    and the others returned. Raises CheckpointError if there is nothing below the prefix.
    """
    state = network.state_dict()
    if prefix and not (_below(state, prefix) and _below(saved, prefix)):
        raise CheckpointError(f"network or checkpoint has no tensor below {prefix!r}")
    mismatch = compare(network, saved, prefix)
    if strict and mismatch:
        raise CheckpointError(f"the network differs from the checkpoint: {mismatch}")
    with torch.no_grad():
        for name in _below(saved, prefix):
            if name in state and _fits(saved[name], state[name]):
                state[name].copy_(saved[name])
    return mismatch


def partial(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    """A copy of the tensors below ``prefix`` under their full names; load_network takes it back.

    Raises CheckpointError if there are none.
    """
    state = network.state_dict()
    if not (names := _below(state, prefix)):
        raise CheckpointError(f"the network has no tensor below {prefix!r}")
    return {name: plain(state[name]) for name in names}


def validate(
    content: Mapping[str, Any],
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    schedules: Mapping[str, LRScheduler],
) -> None:
    """Raises CheckpointError unless restore would fit everywhere. Changes nothing.

    Compared are all names; tensors' shapes and dtypes; optimizers' and schedules' classes; groups
    and the parameters in each; every state tensor's shape and dtype with its parameter's.
    """
    parts = {"networks": networks, "optimizers": optimizers, "schedules": schedules}
    try:
        for part, own in parts.items():
            if set(saved := content.get(part, {})) != set(own):
                raise CheckpointError(f"the checkpoint's {part} are {[*saved]}, not {[*own]}")
        for name, network in networks.items():
            if mismatch := compare(network, content["networks"][name]):
                raise CheckpointError(f"network {name} differs from the checkpoint: {mismatch}")
        for name, optimizer in optimizers.items():
            _check_kind(f"optimizer {name}", content["optimizers"][name]["kind"], optimizer)
            _check_optimizer(name, content["optimizers"][name]["state"], optimizer)
        for name, schedule in schedules.items():
            _check_kind(f"schedule {name}", content["schedules"][name]["kind"], schedule)
            _check_schedule(name, content["schedules"][name]["state"], schedule)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint is not what snapshot makes: {error!r}") from error


def restore(
    content: Mapping[str, Any],
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    schedules: Mapping[str, LRScheduler],
) -> None:
    """Validate, then load everything in place; ``content`` stays apart from what was loaded.

    Raises CheckpointError with nothing changed.
    """
    validate(content, networks, optimizers, schedules)
    for name, network in networks.items():
        load_network(network, content["networks"][name])
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(plain(content["optimizers"][name]["state"]))
    for name, schedule in schedules.items():
        schedule.load_state_dict(plain(content["schedules"][name]["state"]))


def _check_kind(what: str, saved: object, own: object) -> None:
    if saved != _kind(own):
        raise CheckpointError(f"{what}: the checkpoint holds {saved}, here is {_kind(own)}")


def _check_optimizer(name: str, state: Mapping[str, Any], optimizer: Optimizer) -> None:
    saved = [len(group["params"]) for group in state["param_groups"]]
    own = [len(group["params"]) for group in optimizer.param_groups]
    if saved != own:
        raise CheckpointError(f"optimizer {name}: groups of {saved} parameters, here of {own}")
    indices = [index for group in state["param_groups"] for index in group["params"]]
    flat = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    parameters = dict(zip(indices, flat, strict=True))
    for index, values in state["state"].items():
        for key, value in values.items():
            scalar = key in SCALARS and getattr(value, "ndim", 0) == 0
            if isinstance(value, Tensor) and not scalar and not _fits(value, parameters[index]):
                raise CheckpointError(
                    f"optimizer {name}: {key} of parameter {index} is {_shape(value)}, "
                    f"its parameter {_shape(parameters[index])}"
                )


def _check_schedule(name: str, state: Mapping[str, Any], schedule: LRScheduler) -> None:
    own = schedule.state_dict()
    if absent := [key for key in own if key not in state]:
        raise CheckpointError(f"schedule {name}: the checkpoint's state lacks {absent}")
    nested = getattr(schedule, "_schedulers", ())
    for part, inner in zip(state.get("_schedulers", ()), nested, strict=True):
        _check_schedule(name, part, inner)


def _state(thing: Optimizer | LRScheduler) -> dict[str, Any]:
    return {"kind": _kind(thing), "state": plain(thing.state_dict())}


def _kind(thing: object) -> str:
    nested = getattr(thing, "_schedulers", ())
    return type(thing).__name__ + (f"({', '.join(map(_kind, nested))})" if nested else "")


def _below(names: Iterable[str], prefix: str) -> list[str]:
    stem = prefix.rstrip(".")
    return [n for n in names if not stem or n == stem or n.startswith(f"{stem}.")]


def _fits(saved: object, own: object) -> bool:
    both = isinstance(saved, Tensor) and isinstance(own, Tensor)
    return both and _shape(saved) == _shape(own)


def _shape(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}"


def _line(error: Exception) -> str:
    """The error as one line, without torch.load's advice to trust the file."""
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200] if text else 'no message'}"
