"""Load datasets: scikit-learn's digits and diabetes are embedded; torchvision's come on request.

Shapes: N samples, C channels, H height, W width, F features.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.cell import UsageError, unknown
from harness.topics.options import IMAGE_DATASETS

LEVELS = {"digits": 17, "binary-mnist": 2}  # of a pixel, where they are not 256


class Split(NamedTuple):
    """A dataset's training and test inputs and targets, and a hash over all four tensors."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    sha: str


def _split(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor) -> Split:
    """Make a Split; its hash covers the tensors' shapes, types and values."""
    sha = hashlib.sha256()
    for tensor in (train_x, train_y, test_x, test_y):
        sha.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        sha.update(tensor.contiguous().numpy().data)
    return Split(train_x, train_y, test_x, test_y, sha.hexdigest()[:12])


def _one_in_five(n: int) -> tuple[Tensor, Tensor]:
    """Return training and test indices of a fixed 80/20 split, equal for every cell and seed."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(98))
    return order[n // 5 :], order[: n // 5]


@cache
def images(name: str, folder: str | None = None, download: bool = False) -> Split:
    """Load a dataset of images x_NCHW, uint8 in 0..255, and labels y_N, int64.

    digits are scikit-learn's 1,797 real 8x8 images; the others are torchvision's, read from
    ``folder``. binary-mnist is MNIST with each pixel drawn once, white with the probability of its
    brightness (Salakhutdinov & Murray 2008; the draw is this project's own). Raises UsageError if
    the name is unknown or the files are not there.
    """
    if name not in IMAGE_DATASETS:
        raise unknown("dataset", name, IMAGE_DATASETS)
    if name == "digits":
        from sklearn.datasets import load_digits

        bunch = load_digits()
        x = torch.from_numpy((bunch.images * 255 / 16).round().astype("uint8"))[:, None]
        y = torch.from_numpy(bunch.target.astype("int64"))
        train, test = _one_in_five(len(x))
        return _split(x[train], y[train], x[test], y[test])
    from torchvision import datasets

    if folder is None:
        raise UsageError(f"dataset {name!r} needs --data-dir DIR (and --download the first time)")
    kind = {
        "mnist": datasets.MNIST,
        "binary-mnist": datasets.MNIST,
        "fashion-mnist": datasets.FashionMNIST,
    }.get(name, datasets.CIFAR10)
    try:
        halves = [kind(folder, train=train, download=download) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise UsageError(
            f"dataset {name!r} is not in {folder}: {first}; add --download to fetch it"
        ) from None
    tensors = []
    for half in halves:
        x = torch.as_tensor(np.asarray(half.data))
        tensors += [x[:, None] if x.ndim == 3 else x.movedim(-1, 1), torch.as_tensor(half.targets)]
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
def table(file: str | None = None, target: str | None = None) -> Split:
    """Load a table as features x_NF and a target y_N, float32, standardised by the training set.

    Without a file: scikit-learn's diabetes (442 x 10). A file is CSV or Parquet; text columns
    become one-hot, rows with gaps are dropped. Raises UsageError for what cannot be used.
    """
    if file is None:
        from sklearn.datasets import load_diabetes

        frame = load_diabetes(as_frame=True, scaled=False).frame
        target = "target"
    else:
        frame, target = _read_table(Path(file), target)
    frame = frame.dropna()
    if len(frame) < 20:
        raise UsageError(f"table {file}: {len(frame)} complete rows, at least 20 are needed")
    y = frame.pop(target)
    if not pd.api.types.is_numeric_dtype(y) or y.nunique() < 2:
        raise UsageError(f"target {target!r} must be numeric with at least two different values")
    features = pd.get_dummies(frame, dtype=float).to_numpy("float64")
    if not features.shape[1]:
        raise UsageError(f"table {file}: no feature columns are left beside {target!r}")
    values = np.column_stack([features, y.to_numpy("float64")])
    train, test = _one_in_five(len(values))
    mean, sd = values[train].mean(0), values[train].std(0)
    scaled = torch.from_numpy((values - mean) / np.where(sd > 0, sd, 1)).float()
    x, t = scaled[:, :-1], scaled[:, -1]
    return _split(x[train], t[train], x[test], t[test])


def _read_table(path: Path, target: str | None) -> tuple[pd.DataFrame, str]:
    """Read a CSV or Parquet file, and check that it has the target column."""
    if target is None:
        raise UsageError(f"--table {path} needs --target COLUMN")
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        elif path.suffix == ".csv":
            frame = pd.read_csv(path)
        else:
            raise UsageError(f"table {path} must end in .csv or .parquet")
    except UsageError:
        raise
    except Exception as error:  # pandas and pyarrow raise over twenty types for a bad file
        raise UsageError(f"table {path} cannot be read: {str(error).splitlines()[0]}") from None
    if target not in frame:
        raise unknown("target column", target, map(str, frame.columns))
    return frame, target
