"""Write a generator's sample images, during its training and at the end, as one PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.files import write_atomically
from harness.training.loop import Training
from harness.trial.cost import Clock
from harness.trial.task import Task

COLUMNS = 8  # images in a row
GAP = 12  # pixels between grids


def save_grid(path: Path, *parts_NCHW: Tensor) -> None:
    """Write uint8 images as a PNG, in rows of eight; small ones are enlarged to about 32 pixels.

    Each of ``parts_NCHW`` is a grid of its own, one below the other.
    """
    from torchvision.utils import make_grid, save_image  # seconds, of which few processes have need

    grids = [make_grid(_enlarged(part) / 255, nrow=COLUMNS, pad_value=0.5) for part in parts_NCHW]
    gaps = [F.pad(grid, (0, 0, 0, GAP), value=1.0) for grid in grids[:-1]]
    buffer = io.BytesIO()
    save_image(torch.cat([*gaps, grids[-1]], 1), buffer, format="png")
    write_atomically(path, buffer.getvalue())


def save_film(path: Path, rows_NCHW: Sequence[Tensor], final_NCHW: Tensor) -> None:
    """Write a PNG of the samples made during training, then, below a gap, the final ones."""
    save_grid(path, torch.cat(list(rows_NCHW)), final_NCHW)


def _enlarged(images_NCHW: Tensor) -> Tensor:
    """Repeat the pixels of images narrower than 32, a whole number of times; returns floats."""
    times = max(1, 32 // images_NCHW.shape[-1])
    large_NCHW = images_NCHW.cpu().float().repeat_interleave(times, -1)
    return large_NCHW.repeat_interleave(times, -2)


class Film:
    """Collects a generator's samples from the same noise, at five steps of training and at its end.

    ``clock`` counts its time as evaluation, not as training.
    """

    def __init__(self, task: Task, training: Training, clock: Clock) -> None:
        self.task, self.training, self.clock = task, training, clock
        self.steps = {task.budget.steps * part // 4 for part in range(5)}
        self.rows: list[Tensor] = []
        self.look(0)

    def look(self, step: int) -> None:
        """Sample a row of images if the step is one of the five; all ranks call it together."""
        if self.task.topic.generates and step in self.steps:
            with self.clock.measure("eval_s"):
                self.rows.append(self.training.sample(8))

    def save(self) -> dict[str, str]:
        """Sample once more and write the PNG; all ranks call it together.

        Returns its path below the run's folder, as a record's ``samples``; empty if no generator.
        """
        if not self.rows:
            return {}
        name, final = str(Path("samples", f"{self.task.cell.id}.png")), self.training.sample(64)
        if self.training.rank == 0:
            save_film(self.task.run / name, self.rows, final)
        return {"grid": name}
