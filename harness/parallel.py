"""Parallel configurations (note 96): how a training's networks lie over devices and ranks.

Objectives never know: a ``Layout`` gives networks that are called as before.
dp is DataParallel in one process; ddp DistributedDataParallel, alone or with compressed gradients;
zero1 shares out the optimizer's state (Rajbhandari et al. 2020); fsdp also the parameters and
gradients (FSDP2), fsdp_zero2 keeping the parameters between forward and backward; local_sgd trains
each rank alone and averages the parameters now and then (Stich 2019).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn, optim
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.distributed.algorithms.model_averaging.utils import average_parameters
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DataParallel, DistributedDataParallel

EXACT = ("single", "dp", "ddp", "zero1", "fsdp", "fsdp_zero2")
INEXACT = {
    "ddp_bf16": "gradients travel in bfloat16",
    "ddp_powersgd": "gradients travel as factors of rank one from step 3 on (Vogels et al. 2019)",
    "local_sgd": "ranks train alone and average their parameters every few steps (Stich 2019)",
}
NAMES = ("single", "dp", "ddp", "ddp_bf16", "ddp_powersgd", "zero1", "local_sgd", *EXACT[4:])
TOLERANCE = 1e-3  # relative; conv nets drift by reduction order: 3e-5 seen over 5 steps
AVERAGE_EVERY = 4  # steps of local_sgd
COMPRESS_FROM = 2  # PowerSGD's first step: DDP arranges its buckets anew after step one
MEMORY = ("error_dict", "p_memory_dict", "q_memory_dict")  # of PowerSGD, by bucket


def skip_reason(name: str, devices: int) -> str | None:
    """Why the configuration would measure nothing on a machine with ``devices`` GPUs."""
    if name == "dp" and devices < 2:
        return f"dp shares a batch out to GPUs and needs 2 of them: there are {devices} here"
    return None


def ranks(name: str, world_size: int) -> int:
    """How many processes the configuration runs in."""
    return world_size if is_distributed(name) else 1


def is_distributed(name: str) -> bool:
    """Whether it runs in ranks that meet in a process group, if only in one of them."""
    return name not in ("single", "dp")


def is_sharded(name: str) -> bool:
    """Whether a rank holds only its part of the parameters."""
    return name.startswith("fsdp")


@contextmanager
def process_group(rank: int, world_size: int, meeting: str, timeout_s: float) -> Iterator[None]:
    """This process as one rank: nccl where each rank has its own GPU, else gloo.

    meeting: a URL where the ranks find each other. For those of one machine ``file://``, a file
    that does not exist yet; for those of several, where each sees its own GPU only, the
    ``tcp://host:port`` of a TCPStore that is there already; ``env://`` where torchrun started them.
    """
    limit, store, here = timedelta(seconds=timeout_s), None, world_size
    if meeting.startswith("tcp://"):
        host, port = meeting.removeprefix("tcp://").rsplit(":", 1)
        store, here = dist.TCPStore(host, int(port), timeout=limit), 1
    here = int(os.environ.get("LOCAL_WORLD_SIZE", here))
    dist.init_process_group(
        "nccl" if torch.cuda.device_count() >= here else "gloo",
        init_method=None if store else meeting,
        store=store,
        rank=rank,
        world_size=world_size,
        timeout=limit,
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


class Layout:
    """Networks in a configuration, for players that each move some of them.

    called: the networks as each player's objective calls them. What a player does not move is
    frozen in its turn and stays as it is (under fsdp every network is sharded, in place), so that
    a reducer never waits for gradients that do not come.
    """

    def __init__(
        self, name: str, networks: Mapping[str, nn.Module], moves: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.name, self.networks = name, networks
        self.compression: dict[str, powerSGD_hook.PowerSGDState] = {}
        self.spread = {key: self._spread(key, network) for key, network in networks.items()}
        self.moves = moves
        self.called = {
            player: {key: (self.spread if key in moved else networks)[key] for key in networks}
            for player, moved in moves.items()
        }

    def _spread(self, key: str, network: nn.Module) -> nn.Module:
        trained = any(parameter.requires_grad for parameter in network.parameters())
        if self.name == "dp":
            return DataParallel(network)
        if is_sharded(self.name):
            # FSDP warns of outputs that are views: changing one in place would lose its gradient,
            # which no objective here does, and parity would show
            warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
            fully_shard(network, reshard_after_forward=self.name == "fsdp")
            return network
        if not trained or self.name in ("single", "local_sgd"):
            return network
        if self.name == "ddp_powersgd":
            return self._compressed(key, network)
        wrapped = DistributedDataParallel(network)
        if self.name == "ddp_bf16":
            wrapped.register_comm_hook(None, default_hooks.bf16_compress_hook)
        return wrapped

    def _compressed(self, key: str, network: nn.Module) -> nn.Module:
        """PowerSGD goes on in callbacks, whose order over two networks or buckets ranks do not
        share: each network has a group of its own, and one bucket.
        """
        group = dist.new_group()
        wrapped = DistributedDataParallel(network, process_group=group, bucket_cap_mb=100_000)
        state = powerSGD_hook.PowerSGDState(group, 1, start_powerSGD_iter=COMPRESS_FROM)
        wrapped.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
        self.compression[key] = state
        return wrapped

    def optimizer(
        self,
        kind: Callable[..., optim.Optimizer],
        parameters: Iterable[nn.Parameter],
        **settings: Any,
    ) -> optim.Optimizer:
        """torch's optimizer of that class, its state shared out under zero1."""
        if self.name == "zero1":
            return ZeroRedundancyOptimizer(parameters, optimizer_class=kind, **settings)  # type: ignore[arg-type]
        return kind(parameters, **settings)

    def exchange(self, player: str, now: bool) -> None:
        """Whether the player's next backward exchanges gradients; not before the last part."""
        for key in self.moves[player]:
            network = self.spread[key]
            if isinstance(network, DistributedDataParallel):
                network.require_backward_grad_sync = now
            elif isinstance(network, FSDPModule):
                network.set_requires_gradient_sync(now)

    def moved(self, step: int, last: bool) -> None:
        """After step ``step`` of all players: where ranks train alone, average them in time."""
        if self.name == "local_sgd" and (last or step % AVERAGE_EVERY == 0):
            for moved in self.moves.values():
                for key in moved:
                    average_parameters(self.networks[key].parameters(), None)  # type: ignore[arg-type]

    def memory(self) -> dict[str, Any]:
        """What compression remembers on this rank, as plain values; empty without it."""
        return {
            key: {
                "iter": state.iter,
                "random": _random(state.rng),
                **{name: dict(getattr(state, name)) for name in MEMORY},
            }
            for key, state in self.compression.items()
        }

    def remember(self, memory: Mapping[str, Any]) -> None:
        """The inverse of ``memory``."""
        for key, kept in memory.items():
            state = self.compression[key]
            state.iter = kept["iter"]
            keys, place = kept["random"]
            state.rng.set_state(("MT19937", np.array(keys, dtype="uint32"), place, 0, 0.0))
            for name in MEMORY:
                mine = {index: value.clone() for index, value in kept[name].items()}
                setattr(state, name, mine)


def _random(state: np.random.RandomState) -> list[Any]:
    _, keys, place, *_ = state.get_state(legacy=True)
    return [keys.tolist(), place]  # type: ignore[union-attr]


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


def whole(tree: Any) -> Any:
    """The tree with every sharded tensor put together, on the CPU. All ranks call it together."""
    if isinstance(tree, DTensor):
        return tree.full_tensor().cpu()
    if isinstance(tree, dict):
        return {key: whole(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [whole(value) for value in tree]
    return tree


def like(value: Tensor, own: Tensor) -> Tensor:
    """A whole tensor laid out as ``own`` is: this rank's part of it where that is sharded."""
    if isinstance(own, DTensor):
        value = value.to(own.device_mesh.device_type)
        return distribute_tensor(value, own.device_mesh, own.placements, src_data_rank=None)
    return value


def averaged(tree: Any) -> Any:
    """The tree with every floating point tensor averaged over the ranks, which call it together."""
    if isinstance(tree, Tensor) and tree.is_floating_point():
        return mean(tree)
    if isinstance(tree, dict):
        return {key: averaged(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [averaged(value) for value in tree]
    return tree


def is_first() -> bool:
    """Whether this process is rank 0, or has no ranks beside it."""
    return not dist.is_initialized() or dist.get_rank() == 0


def gathered(value: Any) -> list[Any]:
    """Each rank's value, on rank 0; elsewhere empty. For plain values and tensors on the CPU."""
    values: list[Any] | None = [None] * dist.get_world_size() if is_first() else None
    dist.gather_object(value, values)
    return values or []


def mean_over(network: nn.Module, value: Tensor) -> Tensor:
    """The mean over the ranks that a network is spread over; the value itself if it is not."""
    return mean(value) if isinstance(network, DistributedDataParallel) else value
