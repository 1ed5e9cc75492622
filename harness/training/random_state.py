"""Seed, save and restore every random generator that a training uses."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from harness.training import heartbeat


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


GPUs = Sequence[torch.device]  # those that a training is on, none if it is on the CPU


def random_state(generator: torch.Generator, gpus: GPUs) -> dict[str, Any]:
    """Copy the state of every random generator: the loop's, torch's, Python's, NumPy's, GPUs'."""
    kind, keys, *rest = np.random.get_state()
    return {
        "loop": generator.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(gpu) for gpu in gpus],
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype("int64")), *rest],
    }


def set_random_state(state: dict[str, Any], generator: torch.Generator, gpus: GPUs) -> None:
    """Restore every random generator to a state that ``random_state`` copied.

    GPUs beyond those that the training was on keep theirs.
    """
    generator.set_state(state["loop"])
    torch.set_rng_state(state["torch"])
    for gpu, kept in zip(gpus, state["cuda"], strict=False):
        torch.cuda.set_rng_state(kept, gpu)
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype("uint32"), *rest))


@contextmanager
def evaluation_mode(
    networks: Mapping[str, nn.Module], generator: torch.Generator, gpus: GPUs
) -> Iterator[None]:
    """Put networks into evaluation mode for the block, then restore modes and random generators.

    The heart beats in the block, so that a long evaluation is seen to advance.
    """
    before = random_state(generator, gpus)
    modes = {name: network.training for name, network in networks.items()}
    for network in networks.values():
        network.eval()
    try:
        with heartbeat.beating():
            yield
    finally:
        for name, network in networks.items():
            network.train(modes[name])
        set_random_state(before, generator, gpus)
