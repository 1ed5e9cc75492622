"""What ranks do together: join a process group, cut a batch, average, gather, unshard tensors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import distributed_c10d
from torch.nn.parallel import DistributedDataParallel

from harness.axes.parallel.loaded import loaded

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

WAIT_S = 7 * 86_400.0  # no limit in practice; none at all cannot be said
_left: list[dist.ProcessGroup] = []  # the groups that this process left last


@contextmanager
def process_group(
    rank: int, world_size: int, meeting: str, device: str = "cpu", wait_s: float = WAIT_S
) -> Iterator[None]:
    """Join a process group for the block: nccl if each rank trains on a GPU of its own, else gloo.

    meeting: a URL where the ranks find each other. For those of one machine ``file://``, a file
    that does not exist yet; for those of several, where each sees its own GPU only, the
    ``tcp://host:port`` of a TCPStore that is there already; ``env://`` where torchrun started them.
    device: where the ranks train, cpu or cuda.
    wait_s: seconds that joining, or a collective, may wait. As a rule as long as peers need, since
    rank 0 evaluates alone: an executor watches heartbeats, and ends all ranks when none advances.
    """
    limit, store, here = timedelta(seconds=wait_s), None, world_size
    if meeting.startswith("tcp://"):
        host, port = meeting.removeprefix("tcp://").rsplit(":", 1)
        store, here = dist.TCPStore(host, int(port), timeout=limit), 1
    here = int(os.environ.get("LOCAL_WORLD_SIZE", here))
    own_gpu = device == "cuda" and torch.cuda.device_count() >= here
    dist.init_process_group(
        "nccl" if own_gpu else "gloo",
        init_method=None if store else meeting,
        store=store,
        rank=rank,
        world_size=world_size,
        timeout=limit,
    )
    together = True
    try:
        yield
    except BaseException:
        together = not own_gpu  # nccl's ranks leave when all do; an error ends the process anyway
        raise
    finally:
        if together:
            groups = [*distributed_c10d._world.pg_map]  # this one, and all that were made inside
            dist.destroy_process_group()
            # gloo's own threads may still hold them, by a hook on gradients that they have just
            # run; the last who does waits for that thread, which cannot wait for itself
            _left[:] = groups


def shard(batch: Mapping[str, Tensor], rank: int, world_size: int) -> dict[str, Tensor]:
    """Return this rank's equal part of a global batch, whose size ``world_size`` must divide."""
    return {name: tensor.chunk(world_size)[rank] for name, tensor in batch.items()}


def mean_over_ranks(value: Tensor) -> Tensor:
    """Average a tensor over all ranks; every rank gets the mean.

    Without a process group the tensor is returned.
    """
    if dist.is_available() and dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value


def mean_of_unlike(value: Tensor) -> Tensor:
    """Average a tensor over all ranks, but for elements that they have alike: those stay.

    Their mean may be a rounding away, as over three ranks.
    """
    first = value.clone()
    dist.broadcast(first, 0)
    unlike = mean_over_ranks((value != first).to(value.dtype)) > 0
    return torch.where(unlike, mean_over_ranks(value), first)


def is_sharded_tensor(value: object) -> TypeGuard[DTensor]:
    """Whether a value is a DTensor: a tensor of which each rank has a part."""
    return isinstance(value, loaded("torch.distributed.tensor", "DTensor"))


def full_tensor(value: Tensor) -> Tensor:
    """Return a tensor whole, on its device; all ranks call it together if it is sharded."""
    return value.full_tensor() if is_sharded_tensor(value) else value


def full_tensors(tree: Any) -> Any:
    """Replace a tree's sharded tensors by whole ones on the CPU; all ranks call it together.

    Everything else is returned as it is.
    """
    if is_sharded_tensor(tree):
        return full_tensor(tree).cpu()
    if isinstance(tree, dict):
        return {key: full_tensors(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [full_tensors(value) for value in tree]
    return tree


def laid_out_like(value: Tensor, own: Tensor) -> Tensor:
    """Shard a whole tensor as ``own`` is sharded; if ``own`` is not, return the tensor itself."""
    if is_sharded_tensor(own):
        from torch.distributed.tensor import distribute_tensor

        value = value.to(own.device_mesh.device_type)
        return distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)
    return value


def average(tree: Any, device: torch.device) -> Any:
    """Average a tree's floating point tensors over the ranks, which call it together.

    Elements that they have alike stay, bit for bit. device: where the ranks exchange them, as nccl
    takes no others; the means lie where theirs did.
    """
    if isinstance(tree, Tensor) and tree.is_floating_point():
        return mean_of_unlike(tree.to(device)).to(tree.device)
    if isinstance(tree, dict):
        return {key: average(value, device) for key, value in tree.items()}
    if isinstance(tree, list):
        return [average(value, device) for value in tree]
    return tree


def is_rank_zero() -> bool:
    """Whether this process is rank 0, or has no ranks beside it."""
    return not dist.is_initialized() or dist.get_rank() == 0


def gather(value: Any) -> list[Any]:
    """Collect a plain value from each rank in a list, which every rank gets."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def gather_to_rank_zero(value: Any) -> list[Any]:
    """Collect a plain value or CPU tensor from each rank in a list on rank 0; elsewhere empty."""
    values: list[Any] | None = [None] * dist.get_world_size() if is_rank_zero() else None
    dist.gather_object(value, values)
    return values or []


def mean_over_replicas(network: nn.Module, value: Tensor) -> Tensor:
    """Average a tensor over the ranks if the network is wrapped in DDP, else return it."""
    return mean_over_ranks(value) if isinstance(network, DistributedDataParallel) else value
