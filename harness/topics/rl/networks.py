"""The networks of deep-RL agents: a torso that encodes observations, and action values.

Shapes: B batch, O... one observation, F features, A actions, W outputs a value.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Torso(nn.Sequential):
    """Encodes observations: obs_BO -> features_BF; images go through a convolution first.

    Any number of leading dimensions will do.
    """

    def __init__(self, shape: tuple[int, ...], sizes: tuple[int, ...]) -> None:
        layers: list[nn.Module] = []
        self.rank = len(shape)
        features = int(torch.tensor(shape).prod())
        if len(shape) == 3:  # height, width, channels, as MinAtar's (Young & Tian 2019)
            layers += [Channels(), nn.Conv2d(shape[2], 16, 3), nn.ReLU()]
            features = 16 * (shape[0] - 2) * (shape[1] - 2)
        layers.append(nn.Flatten())
        for size in sizes:
            layers += [nn.Linear(features, size), nn.ReLU()]
            features = size
        super().__init__(*layers)

    def forward(self, obs: Tensor) -> Tensor:
        leading = obs.shape[: obs.ndim - self.rank]
        if len(leading) == 1:
            return super().forward(obs)
        return super().forward(obs.flatten(0, len(leading) - 1)).unflatten(0, leading)


class Channels(nn.Module):
    """Moves channels from the last dimension to the first of an image."""

    def forward(self, obs_BHWC: Tensor) -> Tensor:
        return obs_BHWC.movedim(-1, 1)


class Q(nn.Module):
    """Values actions: obs_BO -> outputs_BAW; dueling: a value and advantages over their mean."""

    def __init__(
        self, shape: tuple[int, ...], sizes: tuple[int, ...], actions: int, width: int, duel: bool
    ) -> None:
        super().__init__()
        self.torso = Torso(shape, sizes)
        self.advantage = nn.Linear(sizes[-1], actions * width)
        self.value = nn.Linear(sizes[-1], width) if duel else None
        self.actions = actions

    def forward(self, obs_BO: Tensor) -> Tensor:
        features_BF = self.torso(obs_BO)
        outputs_BAW = self.advantage(features_BF).unflatten(-1, (self.actions, -1))
        if self.value is None:
            return outputs_BAW
        centred_BAW = outputs_BAW - outputs_BAW.mean(-2, keepdim=True)
        return self.value(features_BF).unsqueeze(-2) + centred_BAW
