"""Grids of images as PNG."""

from __future__ import annotations

import io
from pathlib import Path

from torch import Tensor
from torchvision.utils import make_grid, save_image

from harness.store import write_atomically


def save_grid(path: Path, images_NCHW: Tensor, columns: int) -> None:
    """uint8 images in rows of ``columns``, small ones enlarged to 32 pixels, as a PNG."""
    times = max(1, 32 // images_NCHW.shape[-1])
    large_NCHW = images_NCHW.cpu().repeat_interleave(times, -1).repeat_interleave(times, -2)
    buffer = io.BytesIO()
    grid = make_grid(large_NCHW.float() / 255, nrow=columns, padding=2, pad_value=0.5)
    save_image(grid, buffer, format="png")
    write_atomically(path, buffer.getvalue())
