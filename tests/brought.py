"""Values that a project might bring to the axes."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import nn, optim
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel
from torch.optim import lr_scheduler

from harness import AdversarialLoss, Form, Loss, Optimizer, Parallel, Schedule


@dataclass(frozen=True)
class Focal(Loss):
    """Focal loss (Lin et al. 2017)."""

    gamma: float = 2.0
    name: ClassVar[str] = "focal"

    def categorical(self, classes):
        def loss(outputs_NK, target_N):
            log_NK = outputs_NK.log_softmax(-1)
            log_N = log_NK.gather(-1, target_N[..., None])[..., 0]
            return -((1 - log_N.exp()) ** self.gamma) * log_N

        return Form("focal", 1, loss, lambda outputs_NK: outputs_NK.softmax(-1))


class LogCosh(Loss):
    name = "log_cosh"

    def numeric(self, low, high, bins, *, epsilon, delta):
        def loss(outputs_NW, target_N):
            return torch.cosh(outputs_NW[..., 0] - target_N).log()

        return Form("log_cosh", 1, loss, lambda outputs_NW: outputs_NW[..., 0])


class Critic(Loss):
    name = "critic"

    def adversarial(self):
        return AdversarialLoss(
            lambda real, fake: fake.mean() - real.mean(), lambda fake: -fake.mean()
        )


class Restarts(Schedule):
    """Cosine with restarts (Loshchilov & Hutter 2017)."""

    name = "restarts"

    def build(self, optimizer, steps):
        return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=max(1, steps // 4))


class NoBiasDecay(Optimizer):
    """AdamW whose biases do not decay."""

    name = "no_bias_decay"

    def groups(self, named):
        decays = [p for name, p in named if name.endswith("weight")]
        others = [p for name, p in named if not name.endswith("weight")]
        return [{"params": decays}, {"params": others, "weight_decay": 0.0}]

    def build(self, groups, lr, weight_decay):
        return optim.AdamW(groups, lr=lr, weight_decay=weight_decay)


class ScheduleFree(Optimizer):
    """Schedule-free AdamW (Defazio et al. 2024)."""

    name = "schedule_free"

    def build(self, groups, lr, weight_decay):
        from schedulefree import AdamWScheduleFree

        return AdamWScheduleFree(groups, lr=lr, weight_decay=weight_decay)

    def skip(self, parallel):
        return "its mean is not sharded" if parallel == "zero1" else None


class Fp16(Parallel):
    name = "ddp_fp16"
    inexact = "gradients travel in float16"

    def wrap(self, network):
        wrapped = DistributedDataParallel(network)
        wrapped.register_comm_hook(None, default_hooks.fp16_compress_hook)
        return wrapped


class Hybrid(Parallel):
    """HSDP: sharded within pairs of ranks, replicated over pairs."""

    name = "hsdp"
    sharded = True

    def wrap(self, network):
        mesh = init_device_mesh(
            "cpu", (dist.get_world_size() // 2, 2), mesh_dim_names=("replicas", "shards")
        )
        fully_shard(network, mesh=mesh)
        return network

    def skip(self, devices, world_size):
        return f"hsdp needs pairs of ranks, not {world_size}" if world_size % 2 else None


class Tensors(Parallel):
    """Tensor parallelism over the layers ``0`` and ``2``: all ranks see all samples."""

    name = "tensors"
    sharded = True

    def wrap(self, network):
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
        return parallelize_module(network, mesh, plan)

    def parts(self, world_size):
        return 1


def mlp(width):
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, width))


def samples():
    """64 samples of a line through three features."""
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    return x, x @ torch.tensor([1.0, -0.5, 0.25])


def perceptron(outputs):
    return mlp(outputs)
