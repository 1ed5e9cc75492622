"""Take x and y that are in memory as samples: x as a tensor, y as an array.

Shapes: N samples, B rows read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.api import types
from torch import Tensor

from harness.cell import UsageError

NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal", "boolean")  # among objects


@dataclass(frozen=True, eq=False)
class Pair:
    """Samples that are all in memory: x of shape N and a sample's, y as an array."""

    x: Tensor
    y: np.ndarray
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)

    def read(self, row_B: Tensor, seed_B: Tensor) -> tuple[Tensor, np.ndarray]:
        """Return the samples at these rows; nothing here is random."""
        return self.x[row_B], self.y[row_B.numpy()]


def pair(what: str, x: Any, y: Any) -> Pair:
    """Take x and y as samples. Raises UsageError, as ``what``, for a pair that makes no sense."""
    notes = []
    for name, part in (("x", x), ("y", y)):
        refuse_odd(f"{what}: {name}", part)
        if np.ndim(part) == 0:
            raise UsageError(f"{what}: {name} is a single value: samples are needed along it")
    if len(x) != len(y):
        raise UsageError(f"{what}: x has {len(x)} samples, and y has {len(y)}: they must be equal")
    if len(x) == 0:
        raise UsageError(f"{what} is empty: it has no samples")
    if not isinstance(x, Tensor):
        array = np.asarray(x)
        if array.dtype.kind not in "biuf":
            raise UsageError(f"{what}: x holds {array.dtype}: numbers are needed")
        if array.dtype.itemsize > 8:
            raise UsageError(f"{what}: x holds {array.dtype}, which no tensor does: give float64")
        x = torch.from_numpy(np.ascontiguousarray(_native(array)))
    x = x.detach()
    if x.dtype == torch.float64:
        notes.append("x is float64: taken as float32")
        x = x.float()
    refuse_nan(f"{what}: x has NaN or infinite values", x)
    array_N = as_array(f"{what}: y", y)
    refuse_nan(f"{what}: y is NaN or infinite", array_N)
    if types.is_object_dtype(y) and not types.is_object_dtype(array_N):
        notes.append("y holds objects: taken as numbers")
    return Pair(x, array_N, tuple(notes))


def as_array(what: str, y: Any) -> np.ndarray:
    """Return targets as an array. Raises UsageError, as ``what``, for what cannot be one.

    Objects that are all numbers, as a DataFrame of mixed columns gives them, become numbers; a
    missing one becomes NaN.
    """
    refuse_odd(what, y)
    if isinstance(y, Tensor):
        y = y.detach().float() if y.dtype == torch.bfloat16 else y.detach()
    try:
        array = _native(np.asarray(y))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} cannot become an array: {' '.join(str(error).split())}") from None
    if isinstance(y, list) and array.dtype.kind == "U" and not _is_text(y):
        array = np.array(y, object)  # NumPy has made text of what stands beside text
    if array.dtype.kind == "O" and types.infer_dtype(array.ravel()) in NUMBERS:
        return np.asarray(pd.to_numeric(array.ravel())).reshape(array.shape)
    return array


def refuse_odd(what: str, part: Any) -> None:
    """Raise UsageError, as ``what``, for a tensor on a GPU, a sparse one and masked values."""
    if isinstance(part, Tensor) and part.device.type != "cpu":
        raise UsageError(f"{what} is on {part.device}: give it on the CPU")
    if isinstance(part, Tensor) and part.layout != torch.strided:
        raise UsageError(f"{what} is a sparse tensor: give a dense one, as to_dense() does")
    if np.ma.is_masked(part):
        raise UsageError(
            f"{what} has {np.ma.count_masked(part)} masked values: fill or remove them"
        )


def refuse_nan(what: str, part: Tensor | np.ndarray, row_N: Tensor | None = None) -> None:
    """Raise UsageError, as ``what``, for numbers that are not finite.

    row_N: which samples these are of the user's data; None: all that there are.
    """
    if isinstance(part, Tensor):
        if not part.is_floating_point():
            return
        bad_N = ~(part.flatten(1).isfinite().all(1) if part.ndim > 1 else part.isfinite())
    elif part.dtype.kind == "f":
        bad_N = torch.from_numpy(~np.isfinite(part).reshape(len(part), -1).all(1))
    else:
        return
    if bad_N.any():
        first = int(bad_N.nonzero()[0])
        raise UsageError(
            f"{what} in {int(bad_N.sum())} of {len(part)} samples, the first is sample "
            f"{first if row_N is None else row_N[first]}: fill or remove them"
        )


def _is_text(values: list[Any]) -> bool:
    return all(_is_text(v) if isinstance(v, list) else isinstance(v, str) for v in values)


def _native(array: np.ndarray) -> np.ndarray:
    """Return numbers in this machine's order of bytes."""
    numbers = array.dtype.kind in "biuf"
    return array.astype(array.dtype.newbyteorder("="), copy=False) if numbers else array
