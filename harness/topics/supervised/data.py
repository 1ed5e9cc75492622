"""Look at a user's data once: its content, its targets, and what to say of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.cell import UsageError
from harness.topics.supervised import targets
from harness.topics.supervised.pairs import Pair, as_array, refuse_nan
from harness.topics.supervised.parts import Data, Part, load
from harness.topics.supervised.samples import Items
from harness.topics.supervised.targets import Classes, Numbers

MOST_READ = 5_000  # items of a Dataset that are read to hash it
TWICE = 4  # items that are read twice, to see whether they are the same
SAME = {
    ("data", "test"): "test is the training data: its metrics are those of samples that were "
    "trained on",
    ("data", "validation"): "validation is the training data: what chooses was trained on",
    ("test", "validation"): "validation and test are the same data: what chooses is what is "
    "reported",
}


def forget() -> None:
    """Have data looked at anew: in a notebook it may have changed since the last run."""
    for looked in (load, facts, _outline):
        looked.cache_clear()


@lru_cache(maxsize=8)
def _outline(data: Data) -> tuple[float, ...]:
    """Return a few numbers by which to tell whether another process was given the same samples."""
    found: list[float] = []
    for part in data.apart.values():
        found.append(len(part.samples))
        if isinstance(part.samples, Pair):
            x = part.samples.x.float()
            found += [float(one.mean()) for one in (x, x.abs(), x[0], x[-1])]
    return tuple(found)


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
    notes, contents = [*data.notes], {}
    seen: dict[Pair | Items, np.ndarray] = {}
    for name, part in data.apart.items():
        samples, sha = part.samples, hashlib.sha256()
        if isinstance(samples, Pair):
            _feed(sha, samples.x, samples.y)
            seen[samples] = samples.y
        else:
            shared = part is data.train and (len(part) < len(samples) or data.validation is None)
            seen[samples] = _look(samples, sha, notes, classes is None, shared)
        contents[name] = sha.hexdigest()
    _refuse_other_types(data.apart)
    for (name, other), words in SAME.items():
        if name in contents and contents[name] == contents.get(other):
            notes.append(words)
    parts = [part for part in (data.train, data.test, data.validation) if part is not None]
    ys = []
    for part in parts:
        y = seen[part.samples]
        ys.append(y[part.rows.numpy()] if len(y) == len(part.samples) else y)
    target: Classes | Numbers
    if task == "regression":
        target, more = targets.numbers(*ys)
    elif classes is not None:
        target, more = targets.counted(classes, *ys)
    else:
        target, more = targets.classes(*ys, apart=parts[0].samples is not parts[1].samples)
    content, *others = contents.values()
    if others:
        content = hashlib.sha256("".join(contents.values()).encode()).hexdigest()
    return Facts(content[:12], target, tuple(notes + more), _outline(data))


def _refuse_other_types(parts: Mapping[str, Part]) -> None:
    """Raise UsageError if x is of one type in a part and of another one in the next."""
    types = {
        name: str(part.samples.read(part.rows[:1], part.rows[:1])[0].dtype).removeprefix("torch.")
        for name, part in parts.items()
    }
    for name, own in types.items():
        if own != types["data"]:
            raise UsageError(
                f"x of {name} is {own}, and x of data is {types['data']}: give both in one type"
            )


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
            array = as_array(f"{samples.what}: its {name}", told)
            if array.ndim == read.ndim and (array[rows.numpy()] == read).all():
                refuse_nan(f"{samples.what}: y is NaN or infinite", array)
                return array
    if not whole and read.dtype.kind not in "UO":
        return read
    notes.append(f"{samples.what}: it has no targets to look at: all {count} items were read")
    return _targets(Part(samples, torch.arange(count)), None, samples.what)


def _targets(part: Part, sha: Any, what: str) -> np.ndarray:
    """Read samples, feed them to a hash if there is one, and return their targets."""
    found: list[np.ndarray] = []
    for x_B, y_B in part.chunks(64):
        if x_B.is_floating_point() and not x_B.isfinite().all():
            raise UsageError(f"{what}: x has NaN or infinite values")
        if sha is not None:
            _feed(sha, x_B, y_B)
        found.append(y_B)
        if y_B.shape[1:] != found[0].shape[1:]:
            raise UsageError(
                f"{what}: y of an item has shape {found[0].shape[1:]}, and of another one "
                f"{y_B.shape[1:]}: one label or number a sample is needed"
            )
    y = np.concatenate(found)
    refuse_nan(f"{what}: y is NaN or infinite", y, part.rows)
    return y


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
