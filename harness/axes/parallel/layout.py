"""Wrap or shard a training's networks as a parallel configuration asks (note 96).

Objectives never know: a ``Layout`` gives networks that are called as before.
dp is DataParallel in one process; ddp DistributedDataParallel, alone or with compressed gradients;
zero1 shards the optimizer's state (Rajbhandari et al. 2020); fsdp also the parameters and
gradients (FSDP2), fsdp_zero2 keeping the parameters between forward and backward; local_sgd trains
each rank alone and averages the parameters now and then (Stich 2019), in the end all they hold.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn, optim
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from harness.axes.parallel.collectives import mean_of_unlike
from harness.axes.parallel.configurations import CONFIGURATIONS, is_sharded
from harness.axes.parallel.loaded import loaded
from harness.axes.parallel.replicas import Replicas
from harness.cell import UsageError, some_of

AVERAGE_EVERY = 4  # steps of local_sgd
COMPRESS_FROM = 2  # PowerSGD's first step: DDP arranges its buckets anew after step one
UNFINISHED = "Expected to have finished reduction"  # of DDP
MEMORY = ("error_dict", "p_memory_dict", "q_memory_dict")  # attributes of PowerSGDState to save


class Layout:
    """A training's networks, wrapped or sharded for a parallel configuration.

    name: the configuration. moves: by player, the networks that it trains.
    called: by player, the networks as its objective calls them. What a player does not move is
    frozen in its turn and stays as it is (under fsdp every network is sharded, in place), so that
    a reducer never waits for gradients that do not come. trainable: by network, the names of the
    parameters that the topic itself has not frozen.
    Raises UsageError for a parameter that the configuration cannot shard.
    """

    def __init__(
        self, name: str, networks: Mapping[str, nn.Module], moves: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.name, self.networks = name, networks
        self.compression: dict[str, powerSGD_hook.PowerSGDState] = {}
        self.without_gradient: dict[str, list[str]] = {}
        self.wrapped = {key: self._wrap(key, network) for key, network in networks.items()}
        self.moves = moves
        self.trainable = {
            key: {name for name, own in network.named_parameters() if own.requires_grad}
            for key, network in networks.items()
        }
        self.called = {
            player: {key: (self.wrapped if key in moved else networks)[key] for key in networks}
            for player, moved in moves.items()
        }

    def _wrap(self, key: str, network: nn.Module) -> nn.Module:
        """Return a network wrapped for the configuration, or itself if that wraps nothing."""
        trained = any(parameter.requires_grad for parameter in network.parameters())
        if own := CONFIGURATIONS.own.get(self.name):
            return own.wrap(network) if trained or own.sharded else network
        if self.name == "dp":
            return Replicas(network)
        if is_sharded(self.name):
            for name, parameter in network.named_parameters(prefix=key):
                if parameter.dim() == 0:
                    raise UsageError(
                        f"parameter {name} is a scalar, which {self.name} cannot shard: give it "
                        f"the shape (1,), or let the topic's skip leave {self.name} out"
                    )
            from torch.distributed.fsdp import fully_shard  # late: it takes half a second

            # FSDP warns of outputs that are views: changing one in place would lose its gradient,
            # which no objective here does, and parity would show
            warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
            mesh = init_device_mesh(_device(network).type, (dist.get_world_size(),))
            fully_shard(network, mesh=mesh, reshard_after_forward=self.name == "fsdp")
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
        """Wrap a network in DDP with PowerSGD, in a process group of its own and one bucket.

        PowerSGD's collectives go on in callbacks, whose order over networks or buckets may differ
        among ranks.
        """
        group = dist.new_group()
        wrapped = DistributedDataParallel(network, process_group=group, bucket_cap_mb=100_000)
        state = powerSGD_hook.PowerSGDState(group, 1, start_powerSGD_iter=COMPRESS_FROM)
        wrapped.register_comm_hook(state, _compress)
        self.compression[key] = state
        return wrapped

    def optimizer(
        self,
        kind: Callable[..., optim.Optimizer],
        parameters: Iterable[nn.Parameter],
        **settings: Any,
    ) -> optim.Optimizer:
        """Build an optimizer of class ``kind``; under zero1 the ranks shard its state."""
        if self.name == "zero1":
            from torch.distributed.optim import ZeroRedundancyOptimizer

            sharded = ZeroRedundancyOptimizer(parameters, optimizer_class=kind, **settings)  # type: ignore[arg-type]
            if hasattr(sharded.optim, "eval"):
                raise UsageError("zero1 knows no optimizer with modes: let its skip say so")
            return sharded
        return kind(parameters, **settings)

    def freeze_others(self, player: str) -> None:
        """Let only what the player moves take gradients; what the topic froze never does."""
        for turn in (False, True):  # a parameter may be in several networks
            for key in self.networks:
                if (key in self.moves[player]) is turn:
                    for parameter in self._trainable(key):
                        parameter.requires_grad_(turn)

    def _trainable(self, key: str) -> list[nn.Parameter]:
        """Return a network's parameters that the topic has not frozen; fsdp exchanges them."""
        named = self.networks[key].named_parameters()
        return [parameter for name, parameter in named if name in self.trainable[key]]

    def note_gradients(self, player: str) -> None:
        """Note what got no gradient in a player's first backward pass, of networks under DDP."""
        for key in self.moves[player]:
            if isinstance(self.wrapped[key], DistributedDataParallel):
                named = self.networks[key].named_parameters(prefix=key)
                missing = [name for name, own in named if own.requires_grad and own.grad is None]
                self.without_gradient[key] = missing

    def explain(self, error: RuntimeError) -> None:
        """Raise UsageError instead of DDP's error, if it waits for gradients noted not to come."""
        missing = [name for names in self.without_gradient.values() for name in names]
        if missing and UNFINISHED in str(error):
            raise UsageError(
                f"no loss depends on parameter {some_of(missing, 1)}, whose gradient {self.name} "
                "waits for: use it, freeze it by requires_grad_(False), or let the topic's skip "
                f"leave {self.name} out"
            ) from error

    def sync_gradients(self, player: str, now: bool) -> None:
        """Set whether the player's next backward pass exchanges gradients among ranks."""
        for key in self.moves[player]:
            network = self.wrapped[key]
            if isinstance(network, DistributedDataParallel):
                network.require_backward_grad_sync = now
            elif isinstance(network, loaded("torch.distributed.fsdp", "FSDPModule")):
                network.set_requires_gradient_sync(now)

    def after_step(self, step: int, last: bool) -> None:
        """Average parameters over ranks every AVERAGE_EVERY steps and at the end, if local_sgd."""
        if last or step % AVERAGE_EVERY == 0:
            self.average()

    def average(self) -> None:
        """Average the parameters that train over ranks, if local_sgd."""
        if self.name == "local_sgd":
            for moved in self.moves.values():
                for key in moved:
                    _average(self._trainable(key))

    def average_rest(self) -> None:
        """Average what no player trains (buffers, a mean of weights) over ranks, if local_sgd."""
        if self.name != "local_sgd":
            return
        moved = {key for keys in self.moves.values() for key in keys}
        trained = {id(own) for key in moved for own in self._trainable(key)}
        for network in self.networks.values():
            for value in (*network.parameters(), *network.buffers()):
                if value.is_floating_point() and id(value) not in trained:
                    mean = mean_of_unlike(value.detach())
                    if not torch.equal(mean, value):
                        value.detach().copy_(mean)

    def state_dict(self) -> dict[str, Any]:
        """Return this rank's PowerSGD state by network, as a tree; empty without PowerSGD."""
        return {
            key: {
                "iter": state.iter,
                "random": _random(state.rng),
                **{name: dict(getattr(state, name)) for name in MEMORY},
            }
            for key, state in self.compression.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore this rank's PowerSGD state from what ``state_dict`` returned."""
        for key, kept in state.items():
            own = self.compression[key]
            own.iter = kept["iter"]
            keys, position = kept["random"]
            own.rng.set_state(("MT19937", np.array(keys, dtype="uint32"), position, 0, 0.0))
            for name in MEMORY:
                device = _device(self.networks[key])
                setattr(own, name, {i: v.to(device, copy=True) for i, v in kept[name].items()})


def _compress(state, bucket):  # type: ignore[no-untyped-def]  # DDP reads no postponed annotations
    """Exchange a bucket's gradients by PowerSGD.

    It seeds the GPU's random numbers for its own: they go on as they were.
    """
    gpu = [bucket.buffer().device] if bucket.buffer().is_cuda else []
    with torch.random.fork_rng(devices=gpu):
        return powerSGD_hook.powerSGD_hook(state, bucket)


def _average(parameters: Iterable[nn.Parameter]) -> None:
    """Average parameters over ranks in place, all at once; they stay where they are in memory."""
    own = [parameter.detach() for parameter in parameters]
    if not own:
        return
    flat = torch.cat([value.reshape(-1) for value in own])
    flat /= dist.get_world_size()
    dist.all_reduce(flat)
    for value, mean in zip(own, flat.split([value.numel() for value in own]), strict=True):
        value.copy_(mean.view_as(value))


def _device(network: nn.Module) -> torch.device:
    """Return where a network's parameters are; the CPU if it has none."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def _random(state: np.random.RandomState) -> list[Any]:
    """Return the key and position of a NumPy generator (MT19937) as plain values."""
    _, keys, position, *_ = state.get_state(legacy=True)
    return [keys.tolist(), position]  # type: ignore[union-attr]
