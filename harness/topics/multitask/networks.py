"""The shared trunk and the three heads of multi-task learning (note 99).

Shapes: B scenes, C channels, H height, W width, F features, G cells a side, N cells, K classes, L
labels (K and the ground); V outputs a number.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 10
LABELS = 1 + CLASSES


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution with GroupNorm, so that a scene's result is the same in any shard.

    Its units are SiLUs (Elfwing et al. 2018): ReLUs die where a schedule begins at the full rate.
    """
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 2 + stride, stride, padding=1, bias=False),
        nn.GroupNorm(4, outputs),
        nn.SiLU(),
    )


class Trunk(nn.Module):
    """The shared trunk: x_BCHW -> features after each halving of the canvas.

    They are laid out channels last, which is faster on a CPU and in mixed precision on a GPU.
    """

    def __init__(self, channels: int, features: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(block(before, f, stride=2), block(f, f))
            for before, f in zip((channels, *features), features, strict=False)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        levels = []
        x = x.to(memory_format=torch.channels_last)  # contiguous() keeps one channel's strides
        for level in self.levels:
            x = level(x)
            levels.append(x)
        return tuple(levels)


class Classification(nn.Module):
    """Classification head: trunk features -> outputs_BK2, if each digit is absent or present."""

    def __init__(self, features: tuple[int, ...]) -> None:
        super().__init__()
        self.look = nn.Conv2d(features[-1], features[-1], 1)
        self.answer = nn.Linear(features[-1], 2 * CLASSES)

    def forward(self, levels: tuple[Tensor, ...]) -> Tensor:
        seen_BF = F.silu(self.look(levels[-1])).amax((2, 3))
        return self.answer(seen_BF).unflatten(1, (CLASSES, 2))


class Detection(nn.Module):
    """Detection head: trunk features -> outputs_BNO, for each cell a digit's presence and sides.

    From the last features, G x G: is a digit there (2 outputs), its sides (4 V).
    """

    def __init__(self, features: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.look = block(features[-1], features[-1])
        self.answer = nn.Conv2d(features[-1], 2 + 4 * width, 1)

    def forward(self, levels: tuple[Tensor, ...]) -> Tensor:
        return self.answer(self.look(levels[-1])).flatten(2).movedim(1, -1)


class Segmentation(nn.Module):
    """Segmentation head: trunk features of all sizes -> outputs_BHWL, the label of each pixel."""

    def __init__(self, features: tuple[int, ...]) -> None:
        super().__init__()
        *finer, _ = features
        self.narrow = nn.ModuleList(nn.Conv2d(2 * f, f, 1) for f in reversed(finer))
        self.smooth = nn.ModuleList(block(f, f) for f in reversed(finer))
        self.answer = nn.Conv2d(features[0], 4 * LABELS, 1)

    def forward(self, levels: tuple[Tensor, ...]) -> Tensor:
        *finer, x = levels
        for narrow, smooth, fine in zip(self.narrow, self.smooth, reversed(finer), strict=True):
            x = smooth(fine + F.interpolate(narrow(x), fine.shape[-2:]))
        return F.pixel_shuffle(self.answer(x), 2).movedim(1, -1)
