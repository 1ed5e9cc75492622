"""The parallel configurations (note 96): their names, which are exact, and what they need."""

from __future__ import annotations

# trains as single does, up to rounding
EXACT = ("single", "dp", "ddp", "zero1", "fsdp", "fsdp_zero2")
INEXACT = {  # why the others do not
    "ddp_bf16": "gradients travel in bfloat16",
    "ddp_powersgd": "gradients travel as factors of rank one from step 3 on (Vogels et al. 2019)",
    "local_sgd": "ranks train alone and average their parameters every few steps (Stich 2019)",
}
NAMES = ("single", "dp", "ddp", "ddp_bf16", "ddp_powersgd", "zero1", "local_sgd", *EXACT[4:])
TOLERANCE = 1e-3  # relative; conv nets drift by reduction order: 3e-5 seen over 5 steps


def skip_reason(name: str, devices: int, world_size: int = 2) -> str | None:
    """Return why ``world_size`` ranks cannot train so with ``devices`` GPUs; None if they can.

    With no GPU they train on the CPU. Ranks that share a GPU exchange by gloo.
    """
    if name == "dp" and devices < 2:
        return f"dp shares a batch out to GPUs and needs 2 of them: there are {devices} here"
    if is_sharded(name) and 0 < devices < world_size:  # gloo's collectives crash there
        return f"{name} needs a GPU for each of its {world_size} ranks: there are {devices} here"
    return None


def ranks(name: str, world_size: int) -> int:
    """Return how many processes a configuration runs in: ``world_size`` or, undistributed, 1."""
    return world_size if is_distributed(name) else 1


def is_distributed(name: str) -> bool:
    """Whether a configuration runs in a process group, even if only of one rank."""
    return name not in ("single", "dp")


def is_sharded(name: str) -> bool:
    """Whether a configuration leaves each rank only its part of the parameters (FSDP)."""
    return name.startswith("fsdp")
