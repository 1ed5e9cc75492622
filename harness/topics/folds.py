"""Which training samples a cell trains on, and which validate it: by its seed, a fold in turn."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

FOLDS = 8
MOST = 5_000  # samples that validate


class Fold(NamedTuple):
    """Indices of training samples: those that a cell trains on, and those that validate it."""

    train: Tensor
    validation: Tensor


def validating(count: int) -> int:
    """Return how many of ``count`` training samples validate: an eighth, and no more than MOST."""
    return min(max(1, count // FOLDS), MOST)


def fold(count: int, seed: int) -> Fold:
    """Divide ``count`` training samples for a cell's seed: one part of them validates, in turn.

    So seeds differ in their data too, and as many seeds as there are parts validate on all of it.
    """
    size = validating(count)
    start = seed % (count // size) * size
    rows = torch.arange(count)
    chosen = (rows >= start) & (rows < start + size)
    return Fold(rows[~chosen], rows[chosen])
