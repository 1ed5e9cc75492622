"""Gated PixelCNN (note 93; van den Oord et al. 2016b): each pixel given the ones above and left.

Shapes: B batch, C image channels, H height, W width, F features, L levels, P outputs a value.
Two stacks: the vertical one sees the rows above, the horizontal one the pixels to the left and the
vertical one's features. Within a pixel, channel c also sees the channels before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.axes.losses import PixelForm, pixels
from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell
from harness.topics.generators.base import GeneratorTopic
from harness.training.batches import Batches, Shuffled
from harness.training.topic import Batch, Networks, Player


def gate(x: Tensor) -> Tensor:
    """Apply a gated activation: tanh of half the channels, times sigmoid of the other half."""
    a, b = x.chunk(2, dim=1)
    return a.tanh() * b.sigmoid()


class Layer(nn.Module):
    """A gated layer: vertical and horizontal features (B, F, H, W) -> the next ones of each.

    The first layer sees neither its own row (vertical) nor its own pixel (horizontal).
    """

    def __init__(self, inputs: int, features: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.vertical = nn.Conv2d(inputs, 2 * features, (2, 3))
        self.horizontal = nn.Conv2d(inputs, 2 * features, (1, 2))
        self.down = nn.Conv2d(2 * features, 2 * features, 1)
        self.out = nn.Conv2d(features, features, 1)

    def forward(self, v_BFHW: Tensor, h_BFHW: Tensor) -> tuple[Tensor, Tensor]:
        rows = (1, 1, 2, -1) if self.first else (1, 1, 1, 0)
        columns = (2, -1, 0, 0) if self.first else (1, 0, 0, 0)
        above = self.vertical(F.pad(v_BFHW, rows))
        left = self.horizontal(F.pad(h_BFHW, columns))
        return gate(above), self.join(left, above, h_BFHW)

    def join(self, left: Tensor, above: Tensor, h: Tensor) -> Tensor:
        """Return the horizontal stack's next features, from its left and the vertical stack."""
        joined = self.out(gate(left + self.down(above)))
        return joined if self.first else joined + h


class Head(nn.Module):
    """Output layer: h_BFHW, x_BCHW -> outputs_BCHWP; a channel also sees those before it."""

    def __init__(self, features: int, channels: int, width: int) -> None:
        super().__init__()
        self.channels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(features + before, features, 1),
                nn.ReLU(),
                nn.Conv2d(features, width, 1),
            )
            for before in range(channels)
        )

    def one(self, h_BFHW: Tensor, x_BCHW: Tensor, channel: int) -> Tensor:
        """Return the outputs BPHW of one channel; of x only the channels before it are read."""
        return self.channels[channel](torch.cat([h_BFHW, x_BCHW[:, :channel]], 1))

    def forward(self, h_BFHW: Tensor, x_BCHW: Tensor) -> Tensor:
        parts = [self.one(h_BFHW, x_BCHW, channel) for channel in range(len(self.channels))]
        return torch.stack(parts, 1).movedim(2, -1)


class PixelCNN(nn.Module):
    """Predicts each pixel from those above and left: x_BCHW in -1..1 -> outputs_BCHWP."""

    def __init__(self, channels: int, width: int, features: int, depth: int) -> None:
        super().__init__()
        sizes = [channels + 1] + [features] * (depth - 1)  # one more: 1 inside of the image
        self.layers = nn.ModuleList(
            Layer(size, features, first=index == 0) for index, size in enumerate(sizes)
        )
        self.head = Head(features, channels, width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        v_BFHW = h_BFHW = F.pad(x_BCHW, (0, 0, 0, 0, 0, 1), value=1.0)
        for layer in self.layers:
            v_BFHW, h_BFHW = layer(v_BFHW, h_BFHW)
        return self.head(h_BFHW.relu(), x_BCHW)

    @torch.no_grad()
    def sample(self, form: PixelForm, uniform_BCHW: Tensor, levels: int) -> Tensor:
        """Draw level_BCHW pixel by pixel, by inverting each one's CDF at ``uniform_BCHW`` in 0..1.

        Each layer is computed once for each pixel: of the vertical stack a row, of the horizontal
        stack a pixel is kept for the layer above.
        """
        batch, channels, height, width = uniform_BCHW.shape
        layers = cast(list[Layer], list(self.layers))
        blank = layers[0].vertical.weight.new_zeros
        x = blank(batch, channels + 1, height, width)
        x[:, -1] = 1.0
        level = torch.zeros_like(uniform_BCHW, dtype=torch.long)
        last_row: list[Tensor | None] = [None] * len(layers)
        for i in range(height):
            above = []  # of each layer, for this row
            row = blank(batch, channels + 1, 2, width)  # what the first layer sees: two rows above
            row[:, :, max(0, 2 - i) :] = x[:, :, max(0, i - 2) : i]
            for index, layer in enumerate(layers):
                above.append(layer.vertical(F.pad(row, (1, 1))))
                features = gate(above[-1])
                before = last_row[index]
                last_row[index] = features
                row = torch.cat(
                    [torch.zeros_like(features) if before is None else before, features], 2
                )
            last: list[Tensor | None] = [None] * len(layers)
            for j in range(width):
                window = blank(batch, channels + 1, 1, 2)
                window[..., max(0, 2 - j) :] = x[:, :, i : i + 1, max(0, j - 2) : j]
                h = window
                for index, layer in enumerate(layers):
                    here = above[index][..., j : j + 1]
                    h = layer.join(layer.horizontal(window), here, h[..., -1:])
                    before = last[index]
                    last[index] = h
                    window = torch.cat([torch.zeros_like(h) if before is None else before, h], 3)
                for channel in range(channels):
                    pixel = x[:, :channels, i : i + 1, j : j + 1]
                    outputs_BP = self.head.one(h.relu(), pixel, channel)[:, :, 0, 0]
                    drawn = form.draw(outputs_BP, uniform_BCHW[:, channel, i, j])
                    level[:, channel, i, j] = drawn
                    x[:, channel, i, j] = 2 * drawn / (levels - 1) - 1
        return level


@dataclass(frozen=True)
class PixelCNNTopic(GeneratorTopic):
    """Topic that trains a PixelCNN to generate images, with an exact likelihood."""

    fid_samples: int = 2_000  # drawn pixel by pixel
    features: int = 32
    depth: int = 5

    name: ClassVar[str] = "pixelcnn"
    models: ClassVar[tuple[str, ...]] = ("pixelcnn",)
    recipe: ClassVar[tuple[str, str]] = ("ce", "one_cycle")
    margin: ClassVar[float | None] = 0.02
    directions: ClassVar[Mapping[str, str]] = {
        "bits_per_dim": "min",
        "fid": "min",
        "kid": "min",
        "precision": "max",
        "recall": "max",
    }
    budgets: ClassVar[Mapping[str, Budget]] = {
        "smoke": Budget(steps=12, batch_size=32, timeout_s=120, expected_s=6),
        "quick": Budget(steps=700, batch_size=32, timeout_s=300, expected_s=14, looks=5),
        "full": Budget(steps=2000, batch_size=64, timeout_s=14400, expected_s=300, looks=20),
    }

    def forms(self, model: str) -> tuple[str, ...]:
        return ("pixels",)

    def base_optimizer(self, model: str) -> OptimizerSpec:
        return OptimizerSpec("adam", lr=6e-3, adaptive_lr=2e-3)

    def networks(self, cell: Cell) -> dict[str, nn.Module]:
        channels, _ = self.shape
        width = pixels.pixel_form(cell.loss, self.levels).width
        return {"model": PixelCNN(channels, width, self.features, self.depth)}

    def players(self, cell: Cell) -> list[Player]:
        form = pixels.pixel_form(cell.loss, self.levels)

        def objective(networks: Networks, batch: Batch) -> Tensor:
            level_BCHW = batch["level"]
            outputs_BCHWP = networks["model"](2 * level_BCHW / (self.levels - 1) - 1)
            return form.loss(outputs_BCHWP, level_BCHW).mean()

        return [Player("model", ("model",), objective, self.base_optimizer(cell.model))]

    def batches(
        self,
        cell: Cell,
        budget: Budget,
        networks: Networks,
        generator: torch.Generator,
        device: torch.device,
    ) -> Batches:
        rows = self.images.fold(cell.seed).train[: budget.samples]
        level = pixels.to_levels(self.images.train_x[rows], self.levels)
        return Shuffled({"level": level}, generator, device)

    @torch.no_grad()
    def likelihood(self, networks: Networks, cell: Cell, x_NCHW: Tensor) -> dict[str, Any]:
        form = pixels.pixel_form(cell.loss, self.levels)
        device = next(networks["model"].parameters()).device
        nats, values = torch.zeros((), dtype=torch.float64, device=device), 0
        for level_BCHW in pixels.to_levels(x_NCHW, self.levels).split(256):
            level_BCHW = level_BCHW.to(device)
            outputs = networks["model"](2 * level_BCHW / (self.levels - 1) - 1)
            nats += form.nll(outputs, level_BCHW).double().sum()
            values += level_BCHW.numel()
        return {"bits_per_dim": nats.item() / values / math.log(2), "held_out": len(x_NCHW)}

    def evaluate(self, networks: Networks, cell: Cell) -> dict[str, Any]:
        return super().evaluate(networks, cell) | self.simple_bits(len(self.images.test_x))

    def sample(
        self, networks: Networks, cell: Cell, count: int, generator: torch.Generator
    ) -> Tensor:
        channels, size = self.shape
        uniform = torch.rand(count, channels, size, size, generator=generator, dtype=torch.float64)
        form = pixels.pixel_form(cell.loss, self.levels)
        device = next(networks["model"].parameters()).device
        parts = [
            networks["model"].sample(form, part, self.levels)  # type: ignore[operator]
            for part in uniform.to(device).split(500)
        ]
        return pixels.to_images(torch.cat(parts), self.levels)
