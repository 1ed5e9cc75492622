"""The parallel configurations (note 96): their names, which are exact, and what they need."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from harness.axes.axis import Axis, Value

# trains as single does, up to rounding
EXACT = ("single", "dp", "ddp", "zero1", "fsdp", "fsdp_zero2")
INEXACT = {  # why the others do not
    "ddp_bf16": "gradients travel in bfloat16",
    "ddp_powersgd": "gradients travel as factors of rank one from step 3 on (Vogels et al. 2019)",
    "local_sgd": "ranks train alone and average their parameters every few steps (Stich 2019)",
}
NAMES = ("single", "dp", "ddp", "ddp_bf16", "ddp_powersgd", "zero1", "local_sgd", *EXACT[4:])
TOLERANCE = 1e-3  # relative; conv nets drift by reduction order: 3e-5 seen over 5 steps


class Parallel(Value):
    """A parallel configuration of one's own: override ``wrap``.

    inexact: why it does not train as ``single`` does, as a sentence; empty if it does, and parity
    is to show it. sharded: whether it leaves each rank only a part of the parameters (as DTensors).
    """

    inexact: ClassVar[str] = ""
    sharded: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("wrap",)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return a network as ranks call it, wrapped or changed in place.

        It is called on every rank, in a process group, on the training's device.
        """
        raise NotImplementedError

    def parts(self, world_size: int) -> int:
        """Return into how many parts the ranks share a batch out; some of them may have the same.

        1 where all ranks work on the whole batch, as under tensor parallelism.
        """
        return world_size

    def part(self, rank: int, world_size: int) -> int:
        """Return which of the parts a rank has."""
        return rank * self.parts(world_size) // world_size

    def skip(self, devices: int, world_size: int) -> str | None:
        """Return why so many ranks cannot train so with so many GPUs; None if they can."""
        return None


CONFIGURATIONS = Axis("parallel", Parallel, NAMES)


def skip_reason(
    name: str, devices: int, world_size: int = 2, here: int | None = None
) -> str | None:
    """Return why ``world_size`` ranks cannot train so with ``devices`` GPUs; None if they can.

    With no GPU they train on the CPU. Ranks that share a GPU exchange by gloo. here: how many of
    the ranks share this machine's GPUs, by default all.
    """
    here = world_size if here is None else here
    if name == "dp" and devices < 2:
        return f"dp shares a batch out to GPUs and needs 2 of them: there are {devices} here"
    if is_sharded(name) and 0 < devices < here:  # gloo's collectives crash there
        return f"{name} needs a GPU for each of its {here} ranks: there are {devices} here"
    own = CONFIGURATIONS.own.get(name)
    return own.skip(devices, world_size) if own else None


def inexact(name: str) -> str:
    """Return why a configuration does not train as ``single`` does; empty if it does."""
    own = CONFIGURATIONS.own.get(name)
    return own.inexact if own else INEXACT.get(name, "")


def ranks(name: str, world_size: int) -> int:
    """Return how many processes a configuration runs in: ``world_size`` or, undistributed, 1."""
    return world_size if is_distributed(name) else 1


def parts(name: str, world_size: int) -> int:
    """Return into how many parts a configuration's ranks share a batch out."""
    own = CONFIGURATIONS.own.get(name)
    return own.parts(world_size) if own else world_size


def part(name: str, rank: int, world_size: int) -> int:
    """Return which of a batch's parts a rank has."""
    own = CONFIGURATIONS.own.get(name)
    return own.part(rank, world_size) if own else rank


def is_distributed(name: str) -> bool:
    """Whether a configuration runs in a process group, even if only of one rank."""
    return name not in ("single", "dp")


def is_sharded(name: str) -> bool:
    """Whether a configuration leaves each rank only its part of the parameters (FSDP)."""
    own = CONFIGURATIONS.own.get(name)
    return own.sharded if own else name in ("fsdp", "fsdp_zero2")
