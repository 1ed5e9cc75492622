"""Parallel configurations (note 96): how a cell's networks are spread over ranks.

Objectives never know: ``wrap`` gives networks that are called as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

NAMES = ("single", "ddp")
EXACT = ("single", "ddp")
TOLERANCE = 1e-3  # relative; conv nets drift by reduction order: 3e-5 seen over 5 steps


def skip_reason(name: str, devices: int) -> str | None:
    """Why the configuration would measure nothing on a machine with ``devices`` GPUs."""
    return None


def ranks(name: str, world_size: int) -> int:
    """How many processes the configuration runs in."""
    return 1 if name == "single" else world_size


@contextmanager
def process_group(
    rank: int, world_size: int, meeting: Path | str, timeout_s: float
) -> Iterator[None]:
    """This process as one rank: nccl where each rank has its own GPU, else gloo.

    meeting: where the ranks find each other. For those of one machine, a file that does not exist
    yet; for those of several, where each sees its own GPU only, the ``tcp://host:port`` of a
    TCPStore that is there already.
    """
    limit = timedelta(seconds=timeout_s)
    store: dist.Store
    if isinstance(meeting, str):
        host, port = meeting.removeprefix("tcp://").rsplit(":", 1)
        store, needed = dist.TCPStore(host, int(port), timeout=limit), 1
    else:
        store, needed = dist.FileStore(str(meeting), world_size), world_size
    backend = "nccl" if torch.cuda.device_count() >= needed else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=limit)
    try:
        yield
    finally:
        dist.destroy_process_group()


def wrap(name: str, networks: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The networks as the objectives call them."""
    if name == "single":
        return dict(networks)
    return {
        key: DistributedDataParallel(network)
        if any(parameter.requires_grad for parameter in network.parameters())
        else network
        for key, network in networks.items()
    }


def shard(batch: Mapping[str, Tensor], rank: int, world_size: int) -> dict[str, Tensor]:
    """This rank's equal part of a global batch whose size divides by ``world_size``."""
    return {name: tensor.chunk(world_size)[rank] for name, tensor in batch.items()}


def mean(value: Tensor) -> Tensor:
    """The mean over all ranks, on every rank; the value itself where there is one."""
    if dist.is_available() and dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value
