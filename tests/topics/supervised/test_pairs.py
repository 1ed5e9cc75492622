"""Odd arrays: masked, sparse, of objects or of too many bits, in pairs and in items."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pieces
import pytest
import torch

from harness.cell import UsageError
from harness.topics import Supervised

X, Y = pieces.blobs()
NUMBERS = X[:, 0].astype("float64")
MASK = np.arange(len(X)) == 3
OBJECTS = "y holds objects: taken as numbers"


def prepared(x, y, task="classification"):
    models = {"curve": pieces.curve}
    own = Supervised("mine", models=models, data=(x, y), task=task)
    own.prepare()
    return own


def items(of):
    """A list of samples, made by a function of x and y."""
    return [of(torch.from_numpy(x), int(y)) for x, y in zip(X, Y, strict=True)]


LONG = pytest.param(
    (X.astype("longdouble"), Y),
    "data: x holds",
    marks=pytest.mark.skipif(np.dtype("longdouble").itemsize == 8, reason="a float64 here"),
)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        LONG,
        ((torch.from_numpy(X).to_sparse(), Y), "data: x is a sparse tensor: give a dense one"),
        ((X, torch.from_numpy(Y).to_sparse()), "data: y is a sparse tensor: give a dense one"),
        ((np.ma.masked_array(X, X > 2), Y), f"data: x has {(X > 2).sum()} masked values: fill"),
        ((X, np.ma.masked_array(Y, MASK)), "data: y has 1 masked values: fill or remove them"),
        (items(lambda x, y: (x, {"y": y})), "data: its items collate to y = a dict: one label or"),
        (items(lambda x, y: (x, [y])), "data: its items collate to y = a list of 1: one label or"),
        (items(lambda x, y: (x, [y] * 2)), "data: its items collate to y = a list of 2: one label"),
        (items(lambda x, y: (x.to_sparse(), y)), "data: x of item 0 is a sparse tensor"),
        (
            items(lambda x, y: (np.ma.masked_array(x, x == X[5, 2]), y)),
            "data: x of item 5 has 1 masked values",
        ),
    ],
)
def test_odd_samples_are_refused_in_one_line(data, words):
    own = Supervised("mine", models={"line": pieces.line}, data=data, task="classification")
    with pytest.raises(UsageError) as caught:
        own.prepare()
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_items_whose_targets_differ_in_shape_are_refused():
    data = [(x, np.zeros(1 + (i >= 64))) for i, x in enumerate(X)]
    own = Supervised("mine", models={"line": pieces.line}, data=data, task="regression")
    with pytest.raises(UsageError, match=r"y of an item has shape \(1,\), and of another one \(2,"):
        own.prepare()


def test_a_masked_array_without_masked_values_is_an_array():
    assert prepared(np.ma.masked_array(X), Y).dataset_id() == prepared(X, Y).dataset_id()


@pytest.mark.parametrize("kind", [float, Decimal, np.float64])
def test_numbers_among_objects_are_numbers(kind):
    objects = pd.DataFrame({"a": "u", "y": [*map(kind, NUMBERS)]}).to_numpy()[:, 1]
    own, plain = (prepared(X, y, "regression") for y in (objects, NUMBERS))
    assert own.data_notes() == [OBJECTS, *plain.data_notes()]


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_labels_among_objects_are_labels(shape):
    own = prepared(X, (Y + 1).astype(object).reshape(shape))
    assert own.data_notes()[0] == OBJECTS
    assert own.data_notes()[-1] == "labels are taken as 3 classes: 1: 0, 2: 1, 3: 2"


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([None, *NUMBERS[1:]], "is NaN or infinite in 1 of"),
        ([pd.NA, *NUMBERS[1:]], "is NaN or infinite in 1 of"),
        ([*map(str, NUMBERS)], "holds text: regression needs numbers"),
        ([{}] * len(X), "holds a dict: regression needs numbers"),
    ],
)
def test_objects_that_are_no_numbers_are_named(y, words):
    with pytest.raises(UsageError, match=words):
        prepared(X, np.array(y, object)[np.argsort(~MASK, kind="stable")], "regression")


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (NUMBERS * 1e300, "y of the training samples is beyond 1e[+]100: give other units"),
        (NUMBERS * 1e-170, "y varies by .*e-170 around .*, too little to compute with: give other"),
        (NUMBERS * 1e-155, "y varies by .*e-155 around .*, too little to compute with: give other"),
        (1e5 + NUMBERS * 1e-11, "y varies by .*e-11 around 100000, too little to compute with"),
    ],
)
def test_targets_that_overflow_or_vanish_are_refused(y, words):
    with pytest.raises(UsageError, match=words):
        prepared(X, y, "regression")


def test_targets_of_odd_units_are_standardised():
    for factor in (1e-90, 1e90):
        encoded = prepared(X, NUMBERS * factor, "regression")._target.encode(NUMBERS * factor)
        torch.testing.assert_close(
            encoded, prepared(X, NUMBERS, "regression")._target.encode(NUMBERS)
        )
