"""Watch a training for random numbers that its networks or objectives draw themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from harness.axes import parallel
from harness.training.loop import Training
from harness.training.random_state import random_state
from harness.training.topic import Batch, Networks, Player


class Draws:
    """Notes which layers and objectives of a training move a random generator, as it trains.

    Made before the training's first step; it changes no number. layers and objectives: what drew
    (``Dropout in model: random numbers``, ``objective of player: random numbers``), filled as they
    run. It sees the generators that a checkpoint keeps: torch's, Python's, NumPy's, the loop's.
    """

    def __init__(self, training: Training) -> None:
        self.layers: dict[str, None] = {}
        self.objectives: dict[str, None] = {}
        self._generator, self._gpus = training.generator, training.gpus
        self._last: tuple[Any, ...] = ()
        self._inside: list[tuple[dict[str, None], str]] = []  # the innermost that runs is last
        for key, network in training.networks.items():
            for layer in network.modules():
                self._hook(layer, f"{parallel.kind(layer)} in {key}")
        training.players = [
            replace(player, objective=self._watched(player)) for player in training.players
        ]

    def _hook(self, layer: nn.Module, name: str) -> None:
        """Note what a layer's forward draws, while an objective runs."""

        def enter(*_: Any) -> None:
            if self._inside:
                self._note()
                self._inside.append((self.layers, name))

        def leave(*_: Any) -> None:
            if self._inside:
                self._note()
                self._inside.pop()

        layer.register_forward_pre_hook(enter)
        layer.register_forward_hook(leave, always_call=True)

    def _watched(self, player: Player) -> Callable[[Networks, Batch], Tensor]:
        """Return a player's objective, watched."""

        def objective(networks: Networks, batch: Batch) -> Tensor:
            self._last = self._positions()
            self._inside = [(self.objectives, f"objective of {player.name}")]
            try:
                return player.objective(networks, batch)
            finally:
                self._note()
                self._inside = []

        return objective

    def _note(self) -> None:
        """Blame the innermost that runs if a generator has moved since the last look."""
        now = self._positions()
        if now != self._last:
            names, name = self._inside[-1]
            names[f"{name}: {parallel.DRAWS}"] = None
        self._last = now

    def _positions(self) -> tuple[Any, ...]:
        """Return where all random generators stand, as values that can be compared."""
        with temporarily_clear_interpreter_stack():  # within torch.func no tensor has bytes
            state = random_state(self._generator, self._gpus)
            _, keys, *rest = state["numpy"]
            tensors: list[torch.Tensor] = [state["loop"], state["torch"], *state["cuda"], keys]
            return (*(t.numpy().tobytes() for t in tensors), state["python"], *rest)
