"""Open a user's data, and hold a test part apart.

Shapes: B rows read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.cell import UsageError
from harness.topics import datasets, folds
from harness.topics.supervised.given import Given
from harness.topics.supervised.pairs import Pair
from harness.topics.supervised.samples import Items, opened

LARGE = 64 * 2**20  # bytes that a task had better not carry
CHUNK = 256  # samples read at once


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the samples, by their rows."""

    samples: Pair | Items
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[Tensor, np.ndarray]]:
        """Yield x and y of all samples, each read under its row as the seed: always the same."""
        for row_B in self.rows.split(size):
            yield self.samples.read(row_B, row_B)


@dataclass(frozen=True, eq=False)
class Data:
    """A user's samples: those that train and validate in turn (or only train), and those that test.

    order: rows of those that train in a random order, the same for all runs, since data is often
    sorted. notes: what a person should know of how they were taken.
    """

    train: Part
    test: Part
    validation: Part | None
    order: Tensor
    notes: tuple[str, ...]

    @property
    def apart(self) -> dict[str, Part]:
        """Return the parts that the user gave, each as samples of its own, by their names."""
        parts = {"data": self.train, "test": self.test, "validation": self.validation}
        return {
            name: part
            for name, part in parts.items()
            if part is not None and (name == "data" or part.samples is not self.train.samples)
        }

    def fold(self, seed: int) -> tuple[Part, Part]:
        """Return the samples that a cell of this seed trains on, and those that validate it.

        An eighth validates, another for each of eight seeds, unless the user gave such data.
        """
        if self.validation is not None:
            return self.train, self.validation
        samples, rows = self.train.samples, self.order
        fold = folds.fold(len(rows), seed)
        return Part(samples, rows[fold.train]), Part(samples, rows[fold.validation])

    def drawn(self, seed: int, most: int | None) -> Part:
        """Return the samples that a cell of this seed trains on, ``most`` of them at random."""
        train = self.fold(seed)[0]
        if most is None or most >= len(train):
            return train
        rows = train.rows if self.validation is None else self.order
        return Part(train.samples, rows[:most])


@lru_cache(maxsize=8)
def load(data: Given, test: Given | None, validation: Given | None, collate: Given | None) -> Data:
    """Open a user's data, once in each process. Raises UsageError for what is no data, or too few
    samples to test on a fifth.
    """
    samples = opened("data", data, collate)
    notes = [*samples.notes]
    if test is None:
        train, held = datasets.one_in_five(len(samples))
        if len(held) == 0:
            raise UsageError(
                f"data has {len(samples)} sample{'s' * (len(samples) != 1)}, no fifth of which can "
                "be the test part: give 5 or more, or test= apart"
            )
        order = train
        part, size = Part(samples, held), len(held)
        notes.append(f"a fifth ({size} of {len(samples)} samples) is the test part, for all seeds")
    else:
        train, other = torch.arange(len(samples)), opened("test", test, collate)
        order = datasets.random_order(len(samples))
        part = Part(other, torch.arange(len(other)))
    apart = None
    if validation is not None:
        own = opened("validation", validation, collate)
        apart = Part(own, torch.arange(len(own)))
    for one in (data, test, validation):
        if one is not None and not one.is_function and (size := _bytes(one.value)) > LARGE:
            notes.append(
                f"{size / 2**20:.0f} MB of data travel to a worker process with every cell: give a "
                "function that returns it instead"
            )
    return Data(Part(samples, train), part, apart, order, tuple(notes))


def _bytes(value: Any) -> int:
    """Return the size of tensors and arrays; 0 of a Dataset, which may or may not hold its data."""
    parts = value if isinstance(value, tuple | list) and len(value) == 2 else ()
    return sum(int(getattr(part, "nbytes", 0)) for part in parts)
