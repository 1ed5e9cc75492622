"""Open a user's data, hold a test part apart, and look at it once: targets, content, notes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.cell import UsageError
from harness.topics import datasets, folds
from harness.topics.supervised import targets
from harness.topics.supervised.given import Given
from harness.topics.supervised.samples import Items, Pair, opened
from harness.topics.supervised.targets import Classes, Numbers

MOST_READ = 5_000  # items of a Dataset that are read to hash it
TWICE = 4  # items that are read twice, to see whether they are the same
LARGE = 64 * 2**20  # bytes that a task had better not carry
CHUNK = 256  # samples read at once


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the samples, by their rows."""

    samples: Pair | Items
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[Tensor, Any]]:
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
        if validation == test:
            notes.append("validation and test are the same data: what chooses is what is reported")
    for one in (data, test, validation):
        if one is not None and not one.is_function and (size := _bytes(one.value)) > LARGE:
            notes.append(
                f"{size / 2**20:.0f} MB of data travel to a worker process with every cell: give a "
                "function that returns it instead"
            )
    return Data(Part(samples, train), part, apart, order, tuple(notes))


def forget() -> None:
    """Have data looked at anew: in a notebook it may have changed since the last run."""
    for looked in (load, facts, _outline):
        looked.cache_clear()


@lru_cache(maxsize=8)
def _outline(data: Data) -> tuple[float, ...]:
    """Return a few numbers by which to tell whether another process was given the same samples."""
    found: list[float] = []
    for part in (data.train, data.test, data.validation):
        if part is not None:
            found.append(len(part.samples))
            if isinstance(part.samples, Pair):
                x = part.samples.x.float()
                found += [float(one.mean()) for one in (x, x.abs(), x[0], x[-1])]
    return tuple(found)


def _bytes(value: Any) -> int:
    """Return the size of tensors and arrays; 0 of a Dataset, which may or may not hold its data."""
    parts = value if isinstance(value, tuple | list) and len(value) == 2 else ()
    return sum(int(getattr(part, "nbytes", 0)) for part in parts)


@dataclass(frozen=True)
class Facts:
    """What was seen when all data was looked at: a hash of its content, its targets, notes."""

    sha: str
    target: Classes | Numbers
    notes: tuple[str, ...]
    outline: tuple[float, ...]

    def refuse_other(self, data: Data) -> None:
        """Raise UsageError for data that is not, up to rounding, what was looked at."""
        own = _outline(data)
        same = len(own) == len(self.outline)
        if not same or not np.allclose(own, self.outline, rtol=1e-4, atol=1e-6):
            raise UsageError(
                "data differs from what another process was given: its function must return the "
                "same samples each time (seed what it draws)"
            )


@lru_cache(maxsize=32)
def facts(data: Data, task: str, classes: int | None) -> Facts:
    """Look at data once. Raises UsageError for samples and targets that make no sense.

    All of a pair is hashed. Of a Dataset all items are read, up to MOST_READ, beyond that as many
    spread evenly; then classes, mean and sd come from its ``targets`` or ``labels`` if those are
    what its items say, else from reading it whole. So do text labels, even of known ``classes``.
    """
    sha, notes = hashlib.sha256(), [*data.notes]
    seen: dict[int, np.ndarray] = {}
    parts = [part for part in (data.train, data.test, data.validation) if part is not None]
    for part in parts:
        samples = part.samples
        if id(samples) in seen:
            continue
        if isinstance(samples, Pair):
            _feed(sha, samples.x, samples.y)
            seen[id(samples)] = samples.y
        else:
            shared = part is data.train and (len(part) < len(samples) or data.validation is None)
            seen[id(samples)] = _look(samples, sha, notes, classes is None, shared)
    ys = []
    for part in parts:
        y = seen[id(part.samples)]
        ys.append(y[part.rows.numpy()] if len(y) == len(part.samples) else y)
    target: Classes | Numbers
    if task == "regression":
        target, more = targets.numbers(*ys)
    elif classes is not None:
        target, more = targets.counted(classes, *ys)
    else:
        target, more = targets.classes(*ys, apart=parts[0].samples is not parts[1].samples)
    return Facts(sha.hexdigest()[:12], target, tuple(notes + more), _outline(data))


def _look(samples: Items, sha: Any, notes: list[str], whole: bool, shared: bool) -> np.ndarray:
    """Hash items, and return the targets of all; unless ``whole``, numbers may be those read only.

    shared: whether some of them train, and others test or validate.
    """
    count = len(samples)
    rows = torch.arange(count)
    if count > MOST_READ:
        rows = torch.linspace(0, count - 1, MOST_READ, dtype=torch.float64).long()
        notes.append(
            f"{samples.what}: {MOST_READ} of {count} items were read to hash it, spread evenly: a "
            "change of others is not seen"
        )
    if _draws(samples, rows[:TWICE]) and shared:
        notes.append(
            f"{samples.what}: its items are random (augmentation), also those that test or "
            "validate: give test= and validation= apart"
        )
    read = _targets(Part(samples, rows), sha, samples.what)
    if len(rows) == count:
        return read
    for name in ("targets", "labels"):
        told = getattr(samples.dataset, name, None)
        if told is not None and len(told) == count:
            array = np.asarray(told)
            if array.ndim == read.ndim and (array[rows.numpy()] == read).all():
                return array
    if not whole and read.dtype.kind not in "UO":
        return read
    notes.append(f"{samples.what}: it has no targets to look at: all {count} items were read")
    return _targets(Part(samples, torch.arange(count)), None, samples.what)


def _targets(part: Part, sha: Any, what: str) -> np.ndarray:
    """Read samples, feed them to a hash if there is one, and return their targets."""
    found = []
    for x_B, y_B in part.chunks(64):
        if x_B.is_floating_point() and not x_B.isfinite().all():
            raise UsageError(f"{what}: x has NaN or infinite values")
        y = np.asarray(y_B)
        if sha is not None:
            _feed(sha, x_B, y)
        found.append(y)
    return np.concatenate(found)


def _draws(samples: Items, row_B: Tensor) -> bool:
    """Whether items draw random numbers, so that other seeds make others of them.

    Raises UsageError if they differ when they are read again under the same seeds.
    """
    first_B = _one_by_one(samples, row_B, row_B)
    again_B = _one_by_one(samples, row_B.flip(0), row_B.flip(0))[::-1]
    for row, x, again in zip(row_B.tolist(), first_B, again_B, strict=True):
        if not _same(x, again):
            raise UsageError(
                f"{samples.what}: item {row} differs when it is read again with torch, NumPy and "
                "random seeded alike: let it draw from their global generators only, or a training "
                "could not be resumed"
            )
    others_B = _one_by_one(samples, row_B, row_B + 1)
    return not all(map(_same, first_B, others_B))


def _one_by_one(samples: Items, row_B: Tensor, seed_B: Tensor) -> list[Tensor]:
    """Return x of each item, read alone."""
    pairs = zip(row_B.split(1), seed_B.split(1), strict=True)
    return [samples.read(row, seed)[0][0] for row, seed in pairs]


def _same(x: Tensor, other: Tensor) -> bool:
    return x.shape == other.shape and torch.equal(x.nan_to_num(), other.nan_to_num())


def _feed(sha: Any, x: Tensor, y: np.ndarray) -> None:
    """Update a hash with samples: shapes, types and values."""
    sha.update(f"{tuple(x.shape)}{x.dtype}{y.shape}{y.dtype.kind}".encode())
    sha.update(x.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    sha.update(
        np.ascontiguousarray(y).data if y.dtype.kind in "biuf" else repr(y.tolist()).encode()
    )
