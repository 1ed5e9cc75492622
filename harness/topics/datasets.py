"""Load datasets: scikit-learn's digits and diabetes are embedded; torchvision's come on request.

Shapes: N samples, C channels, H height, W width, F features.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.cell import UsageError, unknown
from harness.topics import folds, tables
from harness.topics.options import IMAGE_DATASETS

LEVELS = {"digits": 17, "binary-mnist": 2}  # of a pixel, where they are not 256

DIABETES = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]


class Split(NamedTuple):
    """A dataset's training and test inputs and targets, and a hash over all four tensors.

    Of the training samples a fold is for validation, another for each seed. notes: what a person
    should know of how the data was taken, a line each.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    sha: str
    notes: tuple[str, ...] = ()

    def fold(self, seed: int) -> folds.Fold:
        """Divide the training samples for a cell's seed, as ``folds.fold`` does."""
        return folds.fold(len(self.train_y), seed)


def _split(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    test_y: Tensor,
    *,
    notes: tuple[str, ...] = (),
) -> Split:
    """Make a Split; its hash covers the tensors' shapes, types and values."""
    sha = hashlib.sha256()
    for tensor in (train_x, train_y, test_x, test_y):
        sha.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        sha.update(tensor.contiguous().numpy().data)
    return Split(train_x, train_y, test_x, test_y, sha.hexdigest()[:12], notes)


def _of_sklearn(name: str, delimiter: str = ",") -> np.ndarray:
    """Read a table that scikit-learn brings, without importing it: that takes a second."""
    found = find_spec("sklearn")
    assert found is not None and found.origin is not None
    return np.loadtxt(Path(found.origin).parent / "datasets/data" / name, delimiter=delimiter)


def random_order(n: int) -> Tensor:
    """Return n indices in a fixed random order, equal for every cell and seed."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(98))


def one_in_five(n: int) -> tuple[Tensor, Tensor]:
    """Return training and test indices of a fixed 80/20 split, equal for every cell and seed."""
    order = random_order(n)
    return order[n // 5 :], order[: n // 5]


@cache
def images(name: str, folder: str | None = None, download: bool = False) -> Split:
    """Load a dataset of images x_NCHW, uint8 in 0..255, and labels y_N, int64.

    digits are scikit-learn's 1,797 real 8x8 images; the others are torchvision's, read from
    ``folder``. binary-mnist is MNIST with each pixel drawn once, white with the probability of its
    brightness (Salakhutdinov & Murray 2008; the draw is this project's own). Raises UsageError if
    the name is unknown, or the files are missing or damaged.
    """
    if name not in IMAGE_DATASETS:
        raise unknown("dataset", name, IMAGE_DATASETS)
    if name == "digits":
        rows = _of_sklearn("digits.csv.gz")
        x = (torch.from_numpy(rows[:, :-1]) * 255 / 16).round().byte().view(-1, 1, 8, 8)
        y = torch.from_numpy(rows[:, -1]).long()
        train, test = one_in_five(len(x))
        return _split(x[train], y[train], x[test], y[test])
    if folder is None:
        raise UsageError(f"dataset {name!r} needs --data-dir DIR (and --download the first time)")
    from harness.topics import image_files

    tensors = image_files.read(name, Path(folder), download)
    if name == "binary-mnist":
        draw = torch.Generator().manual_seed(28)
        for half in (0, 2):
            chance = torch.rand(tensors[half].shape, generator=draw)
            tensors[half] = (chance < tensors[half] / 255).to(torch.uint8) * 255
    return _split(*tensors)


def fit_images(x_NCHW: Tensor, size: int) -> Tensor:
    """Turn uint8 images into float32 in -1..1 at size x size (bilinear, never cropped)."""
    x_NCHW = x_NCHW.float() / 127.5 - 1
    if x_NCHW.shape[-1] != size:
        x_NCHW = F.interpolate(x_NCHW, size=(size, size), mode="bilinear", align_corners=False)
    return x_NCHW


@cache
def table(file: str | None = None, target: str | None = None, batch_size: int = 1) -> Split:
    """Load a table as features x_NF and a target y_N, float32, standardised by the training set.

    Without a file: scikit-learn's diabetes (442 x 10). What a file's columns are taken for, and
    which rows are left out, is in the split's notes. batch_size: the largest training batch that
    the rows must suffice for. Raises UsageError for what cannot be used.
    """
    if file is None and target is not None:
        raise UsageError(f"--target {target} needs --table FILE")
    if file is None:
        features = _of_sklearn("diabetes_data_raw.csv.gz", delimiter=" ")
        own = tables.Table(DIABETES, features, _of_sklearn("diabetes_target.csv.gz"), ())
    elif target is None:
        raise UsageError(f"--table {file} needs --target COLUMN")
    else:
        own = tables.load(Path(file), target, batch_size)
    train, test = one_in_five(len(own.target_N))
    for half, words in ((train, "training"), (test, "test")):
        if np.ptp(own.target_N[half]) == 0:
            raise UsageError(
                f"table {file}: target {target!r} is the same in all {len(half)} {words} rows"
            )
    varies_F = np.ptp(own.features_NF[train], axis=0) > 0
    if not varies_F.any():
        raise UsageError(f"table {file}: all features are constant over the training rows")
    notes = [
        f"{name!r} is constant over the training rows: left out"
        for name, varies in zip(own.names, varies_F, strict=True)
        if not varies
    ]
    values = np.column_stack([own.features_NF[:, varies_F], own.target_N])
    mean, sd = values[train].mean(0), values[train].std(0)
    scaled = torch.from_numpy((values - mean) / sd).float()
    x, t = scaled[:, :-1], scaled[:, -1]
    return _split(x[train], t[train], x[test], t[test], notes=(*own.notes, *notes))
