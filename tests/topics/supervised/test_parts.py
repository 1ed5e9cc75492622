"""Data, test and validation given apart: which are the same, and which do not go together."""

import numpy as np
import pieces
import pytest
import torch
from torch import nn

from harness.cell import UsageError
from harness.topics import Supervised

X, Y = pieces.blobs()
TRAINED_ON = "test is the training data: its metrics are those of samples that were trained on"
CHOOSES = "validation is the training data: what chooses was trained on"
REPORTED = "validation and test are the same data: what chooses is what is reported"
OTHER = X[:60] + 1, Y[:60]


def prepared(**settings):
    told = {"models": {"line": pieces.line}, "data": (X, Y), "task": "classification"}
    own = Supervised("mine", **(told | settings))
    own.prepare()
    return own


@pytest.mark.parametrize(
    ("settings", "notes"),
    [
        ({"test": (X, Y)}, [TRAINED_ON]),
        ({"test": (torch.from_numpy(X.copy()), torch.from_numpy(Y))}, [TRAINED_ON]),
        ({"data": pieces.blobs, "test": pieces.blobs}, [TRAINED_ON]),
        ({"data": pieces.Plain(), "test": pieces.Plain()}, [TRAINED_ON]),
        ({"test": OTHER, "validation": (X.copy(), Y.copy())}, [CHOOSES]),
        ({"test": OTHER, "validation": tuple(map(np.copy, OTHER))}, [REPORTED]),
        ({"test": (X, Y), "validation": (X, Y)}, [TRAINED_ON, CHOOSES, REPORTED]),
        ({"test": OTHER, "validation": (X[60:], Y[60:])}, []),
        ({"test": (X, 2 - Y)}, []),
    ],
)
def test_parts_of_the_same_content_are_said(settings, notes):
    assert prepared(**settings).data_notes() == notes


def test_validation_that_is_all_data_is_said_beside_the_fifth_that_tests():
    notes = prepared(validation=(X, Y)).data_notes()
    assert notes[0].startswith("a fifth") and notes[1:] == [CHOOSES]


def test_the_data_s_name_is_of_all_its_parts():
    other = tuple(map(np.copy, OTHER))
    alone, tested, again = (prepared(**one) for one in ({}, {"test": OTHER}, {"test": other}))
    assert tested.dataset_id() == again.dataset_id() != alone.dataset_id()


class Wide(pieces.Plain):
    """Items of another shape, of doubles."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return torch.cat([x, x]).double(), y


@pytest.mark.parametrize("part", ["test", "validation"])
@pytest.mark.parametrize(
    ("other", "words"),
    [
        ((X[:60, :3], Y[:60]), "model line fails on {}'s x of shape (2, 3), float32: RuntimeError"),
        (Wide(), "model line fails on {}'s x of shape (2, 2, 2, 2), float32: RuntimeError"),
        (((X[:60] * 9).astype("uint8"), Y[:60]), "x of {} is uint8, and x of data is float32"),
    ],
)
def test_a_part_that_does_not_go_with_the_data_is_refused_by_name(part, other, words):
    with pytest.raises(UsageError) as caught:
        prepared(**{"test": OTHER, part: other})
    assert words.format(part) in str(caught.value) and "\n" not in str(caught.value)


class Pooled(nn.Module):
    """Takes samples of any width."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 3)

    def forward(self, x):
        return self.layer(x.mean(1, keepdim=True))


def test_a_part_of_another_shape_is_taken_where_the_network_takes_it():
    prepared(models={"pooled": Pooled}, test=(X[:60, :3], Y[:60]))
