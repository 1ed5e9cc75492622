"""The networks of style transfer: style encoder, painter, reader of content, and critic.

Shapes: B batch, H height, W width, F features, Z style code. Content is grey in 0..1 (B, 1, H, W),
where 1 is stroke; styled images are RGB in 0..1 (B, 3, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StyleEncoder(nn.Module):
    """Encodes an image's style: (B, 3, H, W) -> code (B, Z), from statistics over its pixels."""

    def __init__(self, features: int, code: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, features, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(features, 2 * features, 4, stride=2, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(4 * features, code)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        features = self.body(image_B3HW).flatten(2)
        return self.head(torch.cat([features.mean(2), features.std(2)], 1))


class AdaIN(nn.Module):
    """Adaptive instance normalisation: features take mean and deviation from a style code."""

    def __init__(self, features: int, code: int) -> None:
        super().__init__()
        self.affine = nn.Linear(code, 2 * features)

    def forward(self, x_BFHW: Tensor, code_BZ: Tensor) -> Tensor:
        scale, shift = self.affine(code_BZ)[..., None, None].chunk(2, dim=1)
        return F.instance_norm(x_BFHW) * (1 + scale) + shift


class Painter(nn.Module):
    """Paints content (B, 1, H, W) in the style of a code (B, Z): image (B, 3, H, W)."""

    def __init__(self, features: int, code: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(1, features, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(features, 2 * features, 4, stride=2, padding=1),
            nn.ReLU(),
        )
        self.inner = nn.Conv2d(2 * features, 2 * features, 3, padding=1, bias=False)
        self.inner_style = AdaIN(2 * features, code)
        self.outer = nn.Conv2d(3 * features, features, 3, padding=1, bias=False)
        self.outer_style = AdaIN(features, code)
        self.last = nn.Conv2d(features + 4, features, 3, padding=1)
        self.paint = nn.Conv2d(features, 3, 1)

    def forward(self, content_B1HW: Tensor, code_BZ: Tensor) -> Tensor:
        fine = self.encode[:2](content_B1HW)
        x = self.encode[2:](fine)
        x = x + F.relu(self.inner_style(self.inner(x), code_BZ))
        x = torch.cat([F.interpolate(x, scale_factor=2), fine], 1)
        x = F.relu(self.outer_style(self.outer(x), code_BZ))
        x = F.relu(self.last(torch.cat([x, _phase(x), content_B1HW], 1)))
        return self.paint(x).sigmoid()


def _phase(x_BFHW: Tensor) -> Tensor:
    """Return planes (B, 3, H, W) of +-1 that tell where a pixel is in a period of four.

    They let a texture have a phase.
    """
    batch, _, height, width = x_BFHW.shape
    i = torch.arange(height, device=x_BFHW.device)[:, None] // 2 % 2 * 2.0 - 1
    j = torch.arange(width, device=x_BFHW.device)[None] // 2 % 2 * 2.0 - 1
    planes = torch.stack([i.expand(-1, width), j.expand(height, -1), i * j])
    return planes.to(x_BFHW.dtype).expand(batch, -1, -1, -1)


class Reader(nn.Sequential):
    """Reads the content back from an image: (B, 3, H, W) -> (B, 1, H, W)."""

    def __init__(self, features: int) -> None:
        super().__init__(
            nn.Conv2d(3, features, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(features, features, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(features, 1, 3, padding=1),
            nn.Sigmoid(),
        )


class Critic(nn.Module):
    """Scores images (B, 3, H, W), given their styles' and digits' numbers (B,): score (B,)."""

    def __init__(self, features: int, count: int, digits: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, features, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(features, 2 * features, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * features, 2 * features, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.score = nn.Linear(2 * features, 1)
        self.of_style = nn.Embedding(count, 2 * features)
        self.of_digit = nn.Embedding(digits, 2 * features)

    def forward(self, image_B3HW: Tensor, style_B: Tensor, digit_B: Tensor) -> Tensor:
        features_BF = self.body(image_B3HW).mean((2, 3))
        known_BF = self.of_style(style_B) + self.of_digit(digit_B)
        return self.score(features_BF)[:, 0] + (features_BF * known_BF).sum(1)
