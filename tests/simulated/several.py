"""Several simulated GPUs in one process, for DataParallel: what its C++ does between them."""

from __future__ import annotations

import contextlib
import importlib

import torch
from torch.nn.parallel import comm

# its package has a function of this name
data_parallel = importlib.import_module("torch.nn.parallel.data_parallel")


def _on(tensor, index):
    return tensor.to(torch.device("cuda", index))


def _broadcast(tensors, devices, buffer_size=0):
    return [tuple(t if t.get_device() == i else _on(t, i) for t in tensors) for i in devices]


def _scatter(tensor, devices, chunk_sizes=None, dim=0, streams=None, *, out=None):
    parts = tensor.split(chunk_sizes, dim) if chunk_sizes else tensor.chunk(len(devices), dim)
    return tuple(_on(part, i) for part, i in zip(parts, devices, strict=False))


def _gather(tensors, dim=0, destination=0, *, out=None):
    return torch.cat([_on(tensor, destination) for tensor in tensors], dim)


def _reduce(inputs, destination=0, buffer_size=0):
    rows = zip(*inputs, strict=True)
    return tuple(sum(_on(tensor, destination) for tensor in row) for row in rows)


def _apply(modules, inputs, kwargs, devices=None):
    """Call one replica after the other: a dispatch mode belongs to its thread."""
    calls = zip(modules, inputs, kwargs, strict=True)
    return [module(*own, **named) for module, own, named in calls]


@contextlib.contextmanager
def data_parallel_works():
    """Let DataParallel share out to the simulated GPUs for the block."""
    patches = [
        (comm, "broadcast_coalesced", _broadcast),
        (comm, "scatter", _scatter),
        (comm, "gather", _gather),
        (comm, "reduce_add_coalesced", _reduce),
        (data_parallel, "parallel_apply", _apply),
        (data_parallel, "_check_balance", lambda devices: None),  # of memory: there is none
    ]
    with contextlib.ExitStack() as stack:
        for owner, name, value in patches:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield
