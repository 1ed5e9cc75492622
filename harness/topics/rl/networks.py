"""The networks of deep-RL agents: a torso that encodes observations, and action values.

Shapes: B batch, O... one observation, F features, A actions, W outputs a value.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from harness.topics.rl.observations import Observed

SMALL = ((16, 3, 1),)  # filters, kernel, stride: MinAtar's (Young & Tian 2019)
LARGE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # DQN's on Atari (Mnih et al. 2015)
LARGE_FROM = 36  # pixels


class Torso(nn.Sequential):
    """Encodes observations: obs_BO -> features_BF; images go through a convolution first.

    Any number of leading dimensions will do.
    """

    def __init__(self, observed: Observed, sizes: tuple[int, ...]) -> None:
        layers: list[nn.Module] = []
        self.rank = len(observed.shape)
        features = prod(observed.shape)
        if observed.dtype == torch.uint8:
            layers.append(Scale(observed.scale))
        if observed.channels:
            layers.append(Channels(observed.channels))
            channels, height, width = _image(observed)
            for filters, kernel, stride in LARGE if min(height, width) >= LARGE_FROM else SMALL:
                layers += [nn.Conv2d(channels, filters, kernel, stride), nn.ReLU()]
                height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
                channels = filters
            features = channels * height * width
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


class Scale(nn.Module):
    """Turns bytes into numbers, the greatest into 1."""

    def __init__(self, greatest: float) -> None:
        super().__init__()
        self.greatest = greatest

    def forward(self, obs_BO: Tensor) -> Tensor:
        return obs_BO.float() / self.greatest


class Channels(nn.Module):
    """Brings the channels of an image to its first dimension, from where ``Observed`` has them."""

    def __init__(self, channels: str) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, obs_BO: Tensor) -> Tensor:
        if self.channels == "none":
            return obs_BO[:, None]
        return obs_BO.movedim(-1, 1) if self.channels == "last" else obs_BO


def _image(observed: Observed) -> tuple[int, int, int]:
    """Return an image's channels, height and width."""
    if observed.channels == "none":
        return (1, *observed.shape)  # type: ignore[return-value]
    if observed.channels == "first":
        return observed.shape  # type: ignore[return-value]
    return (observed.shape[2], *observed.shape[:2])  # type: ignore[return-value]


class Q(nn.Module):
    """Values actions: obs_BO -> outputs_BAW; dueling: a value and advantages over their mean."""

    def __init__(
        self, observed: Observed, sizes: tuple[int, ...], actions: int, width: int, duel: bool
    ) -> None:
        super().__init__()
        self.torso = Torso(observed, sizes)
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
