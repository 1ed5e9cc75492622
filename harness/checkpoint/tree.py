"""Copy and hash trees: nested dicts, lists and tuples of tensors and plain values."""

from __future__ import annotations

import hashlib
import struct
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness.axes import parallel


class CheckpointError(Exception):
    """Raised when a checkpoint cannot be saved, read or used: one line says why.

    Nothing was changed.
    """


def digest(tree: object) -> str:
    """Return a hex SHA-256 over nested dicts, lists and tuples of tensors and plain values.

    Every bit counts, but neither the order of a dict nor a tensor's device or strides. Raises
    TypeError for what ``torch.load(weights_only=True)`` would not bring back as it is.
    """
    sha = hashlib.sha256()
    _feed(sha, tree)
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    """Update a hash with a value's type, size and bits, so that no two trees look alike."""
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
    """Copy a tree to the CPU, in plain containers; values of other types stay as they are.

    A sharded tensor's copy is sharded, and stays on its device.
    """
    if parallel.is_sharded_tensor(value):
        return value.detach().clone()
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
