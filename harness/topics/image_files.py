"""Read torchvision's image datasets from a folder, and name the file that is damaged.

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from harness.cell import UsageError
from harness.topics.damage import damage, first_bytes
from harness.topics.options import SHAPES

KINDS: dict[str, Any] = {
    "mnist": datasets.MNIST,
    "binary-mnist": datasets.MNIST,
    "fashion-mnist": datasets.FashionMNIST,
    "cifar10": datasets.CIFAR10,
}
CLASSES = 10
IDX_UINT8 = 0x800  # first bytes of MNIST's files: uint8, then how many dimensions
AGAIN = "remove it and fetch it again (--download does) or copy it again"


def read(name: str, folder: Path, download: bool) -> list[Tensor]:
    """Return training x_NCHW (uint8) and y_N (int64), then the same for testing.

    download: let torchvision fetch what is missing. Raises UsageError, in one line, for files that
    are missing, cannot be fetched, are damaged, or do not belong together.
    """
    kind = KINDS[name]
    if download:
        _download(name, folder)
    home, files = _files(name, folder)
    missing = [file.name for file in files if not file.exists()]
    if missing:
        few = "" if len(missing) == len(files) else f": {', '.join(missing)} missing"
        fetch = "" if download else "; add --download to fetch it"
        raise UsageError(f"dataset {name!r} is not in {home}{few}{fetch}")
    for file in files:
        if wrong := damage(file) or _wrong(name, file):
            raise UsageError(f"dataset {name!r}: {file} {wrong}: {AGAIN}")
    tensors = []
    for train in (True, False):
        try:
            half = kind(str(folder), train=train)
            x = torch.as_tensor(np.asarray(half.data))
            y = torch.as_tensor(half.targets)
        except Exception as error:  # torchvision's readers check little, and raise what they hit
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UsageError(f"dataset {name!r} in {home} cannot be read: {first}") from None
        x_NCHW = x[:, None] if x.ndim == 3 else x.movedim(-1, 1)
        _refuse_unfit(name, home, "training" if train else "test", x_NCHW, y)
        tensors += [x_NCHW, y]
    return tensors


def _download(name: str, folder: Path) -> None:
    """Let torchvision fetch a dataset, unless it is there."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--data-dir {folder} is a file, not a folder")
    home, files = _files(name, folder)
    if all(file.exists() for file in files):
        return  # torchvision would fetch none of them again, and would fail on a damaged one
    try:
        KINDS[name](str(folder), train=True, download=True)
    except Exception as error:  # of the network, the disk or the archive
        text = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"dataset {name!r} could not be fetched into {home}: {text}") from None


def _files(name: str, folder: Path) -> tuple[Path, list[Path]]:
    """Return the folder that torchvision looks for a dataset in, and its files."""
    kind = KINDS[name]
    if name == "cifar10":
        home = folder / kind.base_folder
        names = [file for file, _ in (*kind.train_list, *kind.test_list)]
        return home, [home / file for file in (*names, kind.meta["filename"])]
    home = folder / kind.__name__ / "raw"
    return home, [home / Path(packed).stem for packed, _ in kind.resources]


def _wrong(name: str, file: Path) -> str | None:
    """Return what is wrong with a file's content; None if nothing is."""
    kind = KINDS[name]
    if name == "cifar10":
        sums = dict([*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])])
        return None if check_integrity(str(file), sums[file.name]) else "is damaged"
    dimensions, held = (3, "images") if "-images-" in file.name else (1, "labels")
    header = 4 * (dimensions + 1)
    head = first_bytes(file, header)
    if len(head) >= 4 and int.from_bytes(head[:4], "big") != IDX_UINT8 + dimensions:
        return f"is no IDX file of {held}"
    if len(head) < header:
        return "is truncated"
    there = file.stat().st_size - header
    size = prod(struct.unpack(f">{dimensions}I", head[4:]))
    if not size:
        return f"holds no {held}"
    if there != size:
        return f"is {'truncated' if there < size else 'too long'}: {there:,} bytes of {size:,}"
    return None


def _refuse_unfit(name: str, home: Path, half: str, x_NCHW: Tensor, y_N: Tensor) -> None:
    """Raise UsageError if images and labels do not belong together, or are none of the dataset."""
    where = f"dataset {name!r} in {home}: the {half} half has"
    channels, size = SHAPES[name]
    if len(x_NCHW) != len(y_N):
        raise UsageError(f"{where} {len(x_NCHW):,} images but {len(y_N):,} labels")
    if tuple(x_NCHW.shape[1:]) != (channels, size, size):
        shape = "x".join(map(str, x_NCHW.shape[1:]))
        raise UsageError(f"{where} images of {shape}, not {channels}x{size}x{size}")
    if y_N.min() < 0 or y_N.max() >= CLASSES:
        wrong = int(y_N.max() if y_N.max() >= CLASSES else y_N.min())
        raise UsageError(f"{where} a label {wrong}: labels are 0 to {CLASSES - 1}")
