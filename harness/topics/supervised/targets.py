"""What a model is to predict: classes, counted from labels, or numbers, standardised.

Shapes: N samples, B a batch of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.cell import LISTED, UsageError
from harness.topics.tables import LARGEST

PARTS = ("training", "test", "validation")  # whose targets are looked at, the last if it is apart
MOST = 0.5  # classes a sample, beyond which labels are taken for numbers


@dataclass(frozen=True)
class Classes:
    """Classes 0 to count - 1. labels: what they are called in the data, None if just so."""

    count: int
    labels: tuple[Any, ...] | None = None

    def encode(self, y_B: Any) -> Tensor:
        """Turn labels into class indices, int64 of shape B. Raises UsageError for other labels."""
        array_B = _flat("y", np.asarray(y_B))
        if self.labels is None:
            index_B = torch.from_numpy(array_B.astype("int64"))
            bad_B = (index_B.numpy() != array_B) | (array_B < 0) | (array_B >= self.count)
        else:
            place = {label: index for index, label in enumerate(self.labels)}
            index_B = torch.tensor([place.get(label, -1) for label in array_B.tolist()])
            bad_B = (index_B < 0).numpy()
        if bad_B.any():
            raise UsageError(
                f"label {array_B[bad_B].tolist()[0]!r} is none of the {self.count} classes"
            )
        return index_B

    def words(self, score_BK: Tensor) -> np.ndarray:
        """Return the label of each sample's class, that of the highest score."""
        index_B = score_BK.argmax(1).numpy()
        return index_B if self.labels is None else np.array(self.labels)[index_B]

    def told(self) -> dict[str, Any]:
        """Return the labels of classes that are called by others than their numbers."""
        return {} if self.labels is None else {"labels": list(self.labels)}


@dataclass(frozen=True)
class Numbers:
    """Numbers, standardised by the mean and standard deviation of the training samples."""

    mean: float
    sd: float

    def encode(self, y_B: Any) -> Tensor:
        """Turn numbers into standard deviations from the mean, float32 of shape B."""
        array_B = _flat("y", np.asarray(y_B)).astype("float64")
        return torch.from_numpy((array_B - self.mean) / self.sd).float()

    def decode(self, value_B: Tensor) -> Tensor:
        """Turn standard deviations from the mean into the data's own units, float64."""
        return value_B.double() * self.sd + self.mean

    def words(self, value_B: Tensor) -> np.ndarray:
        """Return numbers in the data's own units, float64."""
        return self.decode(value_B).numpy()

    def told(self) -> dict[str, Any]:
        """Return by what numbers are standardised."""
        return {"mean": self.mean, "sd": self.sd}


def classes(*parts: np.ndarray, apart: bool) -> tuple[Classes, list[str]]:
    """Count the classes of labels, in the order of PARTS; return notes as well.

    apart: whether the user gave the test part apart. Raises UsageError for labels that are no
    classes.
    """
    notes: list[str] = []
    train, test, *validation = _labels_of(parts, notes)
    train = np.concatenate([train, *validation])
    own, theirs = Counter(train.tolist()), Counter(test.tolist())
    only = sorted(set(theirs) - set(own))
    if only and apart:
        raise UsageError(
            f"class {only[0]!r} is in the test data only ({theirs[only[0]]} samples): no model can "
            "learn it"
        )
    notes += [
        f"class {label!r} has no training sample: all fell into the test part" for label in only
    ]
    labels = sorted({*own, *theirs})
    if len(labels) < 2:
        raise UsageError(f"all labels are {labels[0]!r}: classification needs two classes or more")
    if train.dtype.kind != "U" and len(labels) > max(2, MOST * len(train)):
        raise UsageError(
            f"{len(labels)} classes in {len(train)} training samples: is task='regression' meant?"
        )
    if labels == list(range(len(labels))):
        return Classes(len(labels)), notes
    return Classes(len(labels), tuple(labels)), [*notes, _told(labels)]


def counted(count: int, *parts: np.ndarray) -> tuple[Classes, list[str]]:
    """Return ``count`` classes as the user says, and notes; parts are those of PARTS.

    Raises UsageError for labels that are no index, and for text of more or fewer different labels.
    """
    found = _labels_of(parts, [])
    if found[0].dtype.kind == "U":
        labels = sorted({label for part in found for label in part.tolist()})
        if len(labels) != count:
            raise UsageError(
                f"classes={count}, but labels are text of {len(labels)} different ones: give "
                f"classes={len(labels)}, or none to have them counted"
            )
        return Classes(count, tuple(labels)), [_told(labels)]
    for part in found:
        try:
            Classes(count).encode(part)
        except UsageError as error:
            raise UsageError(f"{error}: classes={count} are 0 to {count - 1}") from None
    return Classes(count), []


def numbers(*parts: np.ndarray) -> tuple[Numbers, list[str]]:
    """Return how targets of PARTS are standardised, and notes. Raises UsageError for what is no
    number, for training or test targets that are all the same, and for what overflows or vanishes.
    """
    values = []
    for words, part in zip(PARTS, parts, strict=False):
        part = _flat(f"y of the {words} samples", part)
        if part.dtype.kind not in "iuf":
            raise UsageError(
                f"y of the {words} samples holds {_kind(part)}: regression needs numbers"
            )
        part = part.astype("float64")
        if abs(part).max() > LARGEST:
            raise UsageError(f"y of the {words} samples is beyond {LARGEST:g}: give other units")
        if np.ptp(part) == 0 and words != "validation":
            raise UsageError(f"y is {part[0]:g} in all {len(part)} {words} samples")
        values.append(part)
    mean, sd = float(values[0].mean()), float(values[0].std())
    if sd < max(1 / LARGEST, abs(mean) * np.finfo("float64").eps):
        raise UsageError(
            f"y varies by {np.ptp(values[0]):.3g} around {mean:.6g}, too little to compute with: "
            "give other units"
        )
    note = f"targets are standardised (mean {mean:.6g}, sd {sd:.6g}): mse and mae are in sd"
    return Numbers(mean, sd), [note]


def _labels_of(parts: Sequence[np.ndarray], notes: list[str]) -> list[np.ndarray]:
    """Return labels of PARTS, all integers or all text. notes: takes those on training labels."""
    found = []
    for words, part in zip(PARTS, parts, strict=False):
        training = words == PARTS[0]
        found.append(_labels("y" if training else f"{words} y", part, notes if training else []))
        if (found[0].dtype.kind == "U") != (found[-1].dtype.kind == "U"):
            raise UsageError(
                f"labels are text in one of training and {words} data, and numbers in the other"
            )
    return found


def _told(labels: Sequence[Any]) -> str:
    """Return a note of which label is which class."""
    told = ", ".join(f"{label!r}: {index}" for index, label in enumerate(labels[:LISTED]))
    more = ", ..." if len(labels) > LISTED else ""
    return f"labels are taken as {len(labels)} classes: {told}{more}"


def _labels(what: str, y: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return labels as integers or text, one a sample. Raises UsageError for what is neither."""
    y = _flat(what, y, " (of one-hot targets give y.argmax(1))")
    if y.dtype.kind == "O":
        if not all(isinstance(label, str) for label in y):
            odd = next(label for label in y if not isinstance(label, str))
            raise UsageError(
                f"{what} holds {odd!r} beside text: labels are all text or all integers"
            )
        y = y.astype(str)
    if y.dtype.kind == "f":
        if (y != y.round()).any():
            odd = y[y != y.round()][0]
            raise UsageError(
                f"{what} holds {odd:g}, which is no class: is task='regression' meant?"
            )
        notes.append("labels are floats: taken as integers")
    elif y.dtype.kind not in "biuU":
        raise UsageError(f"{what} holds {_kind(y)}: labels are integers or text")
    return y if y.dtype.kind == "U" else y.astype("int64")


def _flat(what: str, y: np.ndarray, hint: str = "") -> np.ndarray:
    """Return targets of shape N; a second dimension of 1 is dropped."""
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if y.ndim != 1:
        raise UsageError(f"{what} has shape {y.shape}: one value a sample is needed{hint}")
    return y


def _kind(y: np.ndarray) -> str:
    """Return what targets hold, in a word or two."""
    if y.dtype.kind == "O" and not all(isinstance(one, str) for one in y):
        odd = next(one for one in y if not isinstance(one, str))
        return f"a {type(odd).__name__}"
    return "text" if y.dtype.kind in "UO" else str(y.dtype)
