"""Refuse sparse gradients under optimizers that cannot take them, before a step is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from harness.axes import schedules
from harness.axes.optimizers import OPTIMIZERS
from harness.cell import UsageError
from harness.training.topic import Player


def check(players: Iterable[Player], networks: Mapping[str, nn.Module], schedule: str) -> None:
    """Raise UsageError for a layer of sparse gradients that its player's optimizer refuses.

    Of the built-in ones only SGD takes them, without momentum, which would be sparse too and fit no
    checkpoint, and without weight decay.
    """
    for player in players:
        own = player.optimizer
        kind = schedules.optimizer_of(schedule, own)
        if kind in OPTIMIZERS.own or (kind == "sgd" and not own.momentum + own.weight_decay):
            continue
        for key in player.networks:
            for name, layer in networks[key].named_modules(prefix=key):
                sparse = isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.sparse
                if sparse and layer.weight.requires_grad:
                    raise UsageError(
                        f"parameter {name}.weight has sparse gradients, which {kind} cannot take: "
                        "leave out sparse=True"
                    )
