"""Optimizers with two modes (schedule-free): weights that train, and weights to be used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn, optim


def with_modes(optimizers: Iterable[optim.Optimizer]) -> list[Any]:
    """Return the optimizers that have ``train`` and ``eval``, put to training."""
    found: list[Any] = [optimizer for optimizer in optimizers if hasattr(optimizer, "eval")]
    for optimizer in found:
        optimizer.train()
    return found


@contextmanager
def kept(optimizers: Sequence[Any], networks: Mapping[str, nn.Module]) -> Iterator[None]:
    """Let the block put optimizers into another mode; afterwards all is as it was, bit for bit.

    optimizers: those with modes. Their own way back would round.
    """
    moved = [p for network in networks.values() if optimizers for p in network.parameters()]
    weights = [parameter.detach().clone() for parameter in moved]
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    settings = [{k: v for k, v in group.items() if k != "params"} for group in groups]
    attributes = [dict(vars(optimizer)) for optimizer in optimizers]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, weight in zip(moved, weights, strict=True):
                parameter.copy_(weight)
        for group, setting in zip(groups, settings, strict=True):
            group.update(setting)
        for optimizer, attribute in zip(optimizers, attributes, strict=True):
            vars(optimizer).update(attribute)
