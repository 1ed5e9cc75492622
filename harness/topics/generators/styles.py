"""Draw digits in styles of stroke, colour and texture; styles-net classifies digit and style.

Shapes: B batch, C channels (1 in, 3 out), H height, W width, N images. Values in 0..1.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.cell import UsageError
from harness.topics.generators.feature_extractor import SIZE, DigitsNet, Extractor

NAME = "styles-net"
WEIGHTS = Path(__file__).parent / "weights" / "styles-net.pt"
WEIGHTS_SHA256 = "d1ebd3f60e07a98218452fd140be1caca9f77409deaf69fec5c056ff22cfd203"
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Style:
    """One style of drawing: stroke width, colours of ink and paper, and texture.

    stroke: -1 thinner to 1 bolder; ink and paper in RGB; texture: of the ink.
    """

    name: str
    stroke: float
    ink: Colour
    paper: Colour
    texture: str = "plain"


STYLES = (
    Style("chalk", 0.0, (0.95, 0.95, 0.90), (0.10, 0.25, 0.18)),
    Style("marker", 1.0, (0.85, 0.10, 0.15), (1.0, 1.0, 1.0)),
    Style("pencil", -0.6, (0.30, 0.30, 0.35), (0.96, 0.94, 0.86)),
    Style("neon", 0.3, (0.20, 1.0, 0.90), (0.05, 0.0, 0.15), "stripes"),
    Style("stamp", 0.8, (0.15, 0.20, 0.75), (0.92, 0.90, 0.95), "checks"),
    Style("sand", 0.4, (0.95, 0.75, 0.20), (0.40, 0.25, 0.10), "bands"),
)


def render(x_B1HW: Tensor, style: Style) -> Tensor:
    """Draw grey strokes (B, 1, H, W) in a style: an image (B, 3, H, W)."""
    bold = F.max_pool2d(x_B1HW, 3, stride=1, padding=1)
    thin = -F.max_pool2d(-x_B1HW, 3, stride=1, padding=1)
    target, share = (bold, style.stroke) if style.stroke > 0 else (thin, -style.stroke)
    stroke_B1HW = x_B1HW + share * (target - x_B1HW)
    ink_13HW = _colour(style.ink, x_B1HW) * _texture(style.texture, x_B1HW)
    paper_1311 = _colour(style.paper, x_B1HW)
    return paper_1311 + stroke_B1HW * (ink_13HW - paper_1311)


def render_each(x_B1HW: Tensor, style_B: Tensor) -> Tensor:
    """Draw each image (B, 1, H, W) in a style of its own, given by its index in STYLES."""
    all_SB3HW = torch.stack([render(x_B1HW, style) for style in STYLES])
    return all_SB3HW[style_B, torch.arange(len(x_B1HW), device=x_B1HW.device)]


def _colour(colour: Colour, like: Tensor) -> Tensor:
    """Return an RGB colour as a tensor (1, 3, 1, 1)."""
    return _constant(colour, like.dtype, like.device)[None, :, None, None]


@cache  # a GPU waits for each
def _constant(values: Colour, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)


def _texture(name: str, like: Tensor) -> Tensor:
    """Return the brightness of the ink (H, W): full and half, in a pattern two pixels wide."""
    rows = torch.arange(like.shape[-2], device=like.device)[:, None] // 2
    columns = torch.arange(like.shape[-1], device=like.device)[None] // 2
    pattern = {
        "plain": 0 * (rows + columns),
        "stripes": 0 * rows + columns,
        "bands": rows + 0 * columns,
        "checks": rows + columns,
    }[name]
    return 1 - 0.5 * (pattern % 2).to(like.dtype)


class StylesNet(DigitsNet):
    """Classifier of an image's digit and style: digits-net in colour, with a second head."""

    def __init__(self) -> None:
        super().__init__()
        self.body[0] = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.style_head = nn.Linear(self.head.in_features, len(STYLES))

    def forward(self, x_N3HW: Tensor) -> Tensor:
        """Return features (N, 64) of uint8 images (N, 3, H, W)."""
        features: Tensor = self.body(prepare(x_N3HW))
        return features

    def classify(self, x_N3HW: Tensor) -> Tensor:
        """Return logits (N, 10) of the digit."""
        logits: Tensor = self.head(self(x_N3HW).relu())
        return logits

    def classify_style(self, x_N3HW: Tensor) -> Tensor:
        """Return logits (N, S) of the style."""
        logits: Tensor = self.style_head(self(x_N3HW).relu())
        return logits


def prepare(x_N3HW: Tensor) -> Tensor:
    """Turn uint8 images into styles-net's input: (N, 3, 32, 32) in 0..1."""
    x_N3HW = x_N3HW.float() / 255
    if x_N3HW.shape[-1] == SIZE:
        return x_N3HW
    return F.interpolate(x_N3HW, (SIZE, SIZE), mode="bilinear", antialias=True)


@cache
def network(device: torch.device | str = "cpu") -> StylesNet:
    """Load the trained styles-net. Raises UsageError for a file that is not the one shipped."""
    data = WEIGHTS.read_bytes()
    if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
        raise UsageError(f"{NAME} weights {WEIGHTS} are not the ones shipped: reinstall")
    with torch.random.fork_rng(devices=[]):  # initial values must not move the caller's generator
        trained = StylesNet()
    trained.load_state_dict(torch.load(io.BytesIO(data), weights_only=True))
    # pooling and small convolutions take half the time channels last
    trained.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return trained.eval().requires_grad_(False).to(device)


def extractor(device: torch.device | str = "cpu") -> Extractor:
    """Return styles-net as a feature extractor, as ``fid.evaluate`` takes one."""
    trained = network(device)
    size = trained.head.in_features
    return Extractor(
        NAME, WEIGHTS_SHA256, size, 3, torch.device(device), lambda x_N3HW: (trained(x_N3HW),)
    )
