"""Compose scenes of labelled images, with their labels, boxes and pixel masks.

A scene has a grid of cells, and at most one image has its middle in a cell, near the cell's own: so
images overlap and none hides another.

Shapes: B scenes, D images a scene at most, C channels, H height, W width of the canvas, N images to
choose from; the canvas is square. Boxes are x0, y0, x1, y1 in pixels, ends excluded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

INK = 0.4  # from this brightness on, a pixel belongs to its image
MOST = 3
SIZES = (1.1, 1.5)  # an image's side in cells
JITTER = 0.25  # how far from a cell's middle an image's may lie, in cells


class Arrangement(NamedTuple):
    """Where which images go in a batch of scenes, drawn at random.

    pick_BD: the images' numbers; there_BD: whether there is one. cell_BD: where its middle is, row
    by row; middle_BD2 (x and y) and side_BD in pixels.
    """

    pick: Tensor
    there: Tensor
    cell: Tensor
    middle: Tensor
    side: Tensor


class Scenes(NamedTuple):
    """A batch of composed scenes, with the labels, boxes and pixel masks of what is in them.

    x_BCHW in 0..1. label_BD: 1 + the image's class, 0 where there is none. cell_BD: where its
    middle is, row by row. box_BD4 encloses all of its ink, also what a later image covers; zeros
    where there is none. mask_BHW: the label that each pixel shows, 0 for the ground.
    """

    x: Tensor
    label: Tensor
    cell: Tensor
    box: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Canvas:
    """A square on which scenes are composed, with a grid of cells.

    size: pixels a side; cells: a side, of equal whole size, as many as MOST or more in all. opaque:
    an image covers its whole square (a photograph), not only where it is bright.
    """

    size: int
    cells: int
    opaque: bool = False

    def compose(
        self,
        images_NCHW: Tensor,
        class_N: Tensor,
        count_B: Tensor,
        generator: torch.Generator,
    ) -> Scenes:
        """Compose scenes with ``count_B`` (1 to MOST) of the images each, drawn with ``generator``.

        All of them are on the CPU.
        """
        return self.draw(images_NCHW, class_N, self.arrange(len(images_NCHW), count_B, generator))

    def arrange(self, images: int, count_B: Tensor, generator: torch.Generator) -> Arrangement:
        """Choose ``count_B`` (1 to MOST) of so many images for each scene, and where they go."""
        shape = (len(count_B), MOST)
        pick_BD = torch.randint(images, shape, generator=generator)
        order = torch.rand(len(count_B), self.cells**2, generator=generator).argsort(1)
        cell_BD = order[:, :MOST]
        low, high = SIZES
        pixels = self.size / self.cells
        side_BD = pixels * (low + (high - low) * torch.rand(shape, generator=generator))
        offset_BD2 = JITTER * (2 * torch.rand(*shape, 2, generator=generator) - 1)
        margin_BD1 = side_BD[..., None] / 2  # all of it is on the canvas
        middle_BD2 = (self.middles(cell_BD) + pixels * offset_BD2).clamp(
            margin_BD1, self.size - margin_BD1
        )
        there_BD = torch.arange(MOST) < count_B[:, None]
        return Arrangement(pick_BD, there_BD, cell_BD, middle_BD2, side_BD)

    def draw(self, images_NCHW: Tensor, class_N: Tensor, arrangement: Arrangement) -> Scenes:
        """Draw scenes as they are arranged, of uint8 images; all on one device.

        Each image is as bright as its brightest pixel allows; later ones are in front.
        """
        pick_BD, there_BD, cell_BD, middle_BD2, side_BD = arrangement
        pasted_BDCHW, ink_BDHW = self._paste(_brightened(images_NCHW[pick_BD]), middle_BD2, side_BD)
        ink_BDHW = ink_BDHW & there_BD[..., None, None]
        label_BD = (class_N[pick_BD] + 1) * ink_BDHW.any(-1).any(-1)
        x_BCHW = torch.zeros_like(pasted_BDCHW[:, 0])
        mask_BHW = torch.zeros_like(ink_BDHW[:, 0], dtype=torch.int64)
        for d in range(MOST):
            ink_BHW, pasted_BCHW = ink_BDHW[:, d], pasted_BDCHW[:, d]
            mask_BHW = torch.where(ink_BHW, label_BD[:, d, None, None], mask_BHW)
            shown = torch.where(ink_BHW[:, None], pasted_BCHW, pasted_BCHW.maximum(x_BCHW))
            x_BCHW = torch.where(there_BD[:, d, None, None, None], shown, x_BCHW)
        return Scenes(x_BCHW, label_BD, cell_BD, around(ink_BDHW), mask_BHW)

    def middles(self, cell: Tensor) -> Tensor:
        """Return the middles of cells by their number, in pixels: x and y in a last dimension."""
        cell_xy = torch.stack([cell % self.cells, cell // self.cells], -1)
        return (cell_xy + 0.5) * self.size / self.cells

    def sides(self, box_BD4: Tensor, cell_BD: Tensor) -> Tensor:
        """Return boxes' reach left, up, right and down from their cells' middles, in cells."""
        middle_BD2 = self.middles(cell_BD)
        reach = torch.cat([middle_BD2 - box_BD4[..., :2], box_BD4[..., 2:] - middle_BD2], -1)
        return reach * self.cells / self.size

    def boxes(self, sides_BN4: Tensor) -> Tensor:
        """Return the box of each cell from how far it reaches: the inverse of ``sides``."""
        reach = sides_BN4 * self.size / self.cells
        middle_N2 = self.middles(torch.arange(self.cells**2, device=reach.device))
        return torch.cat([middle_N2 - reach[..., :2], middle_N2 + reach[..., 2:]], -1)

    def _paste(
        self, images_BDCHW: Tensor, middle_BD2: Tensor, side_BD: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Draw each image alone on a canvas (bilinear); return these, and each one's pixels."""
        at = torch.arange(self.size, device=side_BD.device) + 0.5
        at_BD2S = (at - middle_BD2[..., None]) / (side_BD[..., None, None] / 2)
        shape = (*side_BD.shape, self.size, self.size)
        across = at_BD2S[..., 0, None, :].expand(shape)
        down = at_BD2S[..., 1, :, None].expand(shape)
        grid = torch.stack([across, down], -1)
        pasted = F.grid_sample(images_BDCHW.flatten(0, 1), grid.flatten(0, 1), align_corners=False)
        pasted_BDCHW = pasted.unflatten(0, side_BD.shape)
        if self.opaque:
            return pasted_BDCHW, (grid.abs() < 1).all(-1)
        return pasted_BDCHW, pasted_BDCHW.amax(2) > INK


def around(ink: Tensor) -> Tensor:
    """Return the smallest boxes (..., 4) around the true pixels of ink (..., H, W), or zeros."""
    sides = []
    for along in (ink.any(-2), ink.any(-1)):  # columns, rows
        first = along.int().argmax(-1)
        last = along.shape[-1] - along.flip(-1).int().argmax(-1)
        sides.append(torch.stack([first, last * along.any(-1)], -1))
    return torch.stack(sides, -1).flatten(-2).float()


def _brightened(images: Tensor) -> Tensor:
    """Scale each image to 0..1 by its brightest pixel."""
    images = images.float()
    return images / images.amax((-3, -2, -1), keepdim=True).clamp_min(1)
