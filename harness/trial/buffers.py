"""Find the buffers that networks set from the batch they see: a part's differ from the whole's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from harness.axes import parallel
from harness.cell import some_of
from harness.training.loop import Training
from harness.training.topic import Batch, Networks, Player

NAMED = 3  # buffers of a layer that are named

Buffers = dict[tuple[str, str], Tensor]  # by layer, ``Codebook in model``, and the buffer's name


class Watch:
    """Notes in a training's first step what its objectives make of buffers, as it trains.

    Made before that step; it changes no number. changed: each buffer as the first objective that
    changes it leaves it, before an update of the parameters that it may follow.
    """

    def __init__(self, training: Training) -> None:
        self.changed: Buffers = {}
        self._training, self._begun = training, copied(training.networks)
        training.players = [
            replace(player, objective=self._watched(player)) for player in training.players
        ]

    def _watched(self, player: Player) -> Callable[[Networks, Batch], Tensor]:
        """Return a player's objective, watched."""

        def objective(networks: Networks, batch: Batch) -> Tensor:
            loss = player.objective(networks, batch)
            if self._training.step == 0:
                self.changed = changed(self._begun, self._training.networks) | self.changed
            return loss

        return objective


def copied(networks: Mapping[str, nn.Module]) -> Buffers:
    """Return copies of all buffers of networks, on the CPU; all ranks call it together."""
    return {
        (f"{parallel.kind(layer)} in {key}", f"{path}.{name}" if path else name): (
            parallel.full_tensor(buffer).detach().cpu().clone()
        )
        for key, network in networks.items()
        for path, layer in network.named_modules()
        for name, buffer in layer.named_buffers(recurse=False)
    }


def changed(before: Buffers, networks: Mapping[str, nn.Module]) -> Buffers:
    """Return copies of the buffers that are no longer what they were."""
    now = copied(networks)
    return {key: now[key] for key in now if not _alike(before.get(key), now[key], 0.0)}


def apart(
    whole: Buffers, part: Buffers, layers: Collection[str] = (), tolerance: float = 0.0
) -> list[str]:
    """Name the layers whose buffers follow a part of a batch otherwise than the whole batch.

    whole and part: what changed by each, from the same beginning. layers: those that are known,
    whose statistics are not named again. ``Codebook in model: buffers c.code, c.count``.
    """
    found: dict[str, list[str]] = {}
    for layer, name in {**whole, **part}:
        known = f"{layer}: {parallel.STATISTICS}" in layers
        one, other = whole.get((layer, name)), part.get((layer, name))
        if not known and not _alike(one, other, tolerance):
            found.setdefault(layer, []).append(name)
    return [
        f"{layer}: {'buffer' if len(names) == 1 else 'buffers'} {some_of(names, NAMED)}"
        for layer, names in found.items()
    ]


def _alike(one: Tensor | None, other: Tensor | None, tolerance: float) -> bool:
    """Whether two buffers are equal, those of numbers within a relative tolerance."""
    if one is None or other is None or one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    same = torch.allclose(one, other, rtol=0.0, atol=0.0, equal_nan=True)
    return same or bool((one - other).norm() <= tolerance * one.norm())
