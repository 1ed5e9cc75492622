"""Odd models, data and settings: one clear line each, or a note where harmless."""

from functools import partial

import numpy as np
import pieces
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from harness.axes.optimizers import OptimizerSpec
from harness.cell import UsageError
from harness.topics import Supervised
from harness.topics.datasets import one_in_five
from harness.topics.supervised import data
from harness.training.declaration import check

X, Y = pieces.blobs()
WORDS = np.array(["ant", "bee", "cat"])[Y]


def topic(**settings):
    told = {"models": {"line": pieces.line}, "data": (X, Y), "task": "classification"}
    return Supervised("mine", **(told | settings))


def prepared(**settings):
    own = topic(**settings)
    check(own)
    own.prepare()
    return own


def with_value(array, place, value):
    array = array.astype("float64")
    array[place] = value
    return array


def local():
    def inside():
        return pieces.line()

    return inside


class Streamed(IterableDataset):
    def __iter__(self):
        yield X[0], Y[0]


class Unsized(Dataset):
    def __getitem__(self, index):
        return X[index], Y[index]


class Stateful(pieces.Plain):
    """Draws from a generator of its own."""

    def __init__(self):
        super().__init__()
        self.generator = np.random.default_rng(0)

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + self.generator.normal(), y


class Triples(pieces.Plain):
    def __getitem__(self, index):
        return *super().__getitem__(index), 1


class Torn(pieces.Plain):
    def __getitem__(self, index):
        return open(f"/nowhere/{index}.png").read(), 0


class Objects(pieces.Plain):
    def __getitem__(self, index):
        return object(), 0


class Gaps(pieces.Plain):
    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x * float("nan"), y


class Opened(pieces.Plain):
    """Holds an open file."""

    def __init__(self):
        super().__init__()
        self.file = open(__file__, "rb")  # noqa: SIM115


def dropping(items):
    return default_collate([(x, y) for x, y in items if y != 1])


class Machine:
    def __call__(self):
        return pieces.line()

    def make(self):
        return pieces.line()


SHARED = pieces.line()


def shared():
    return SHARED


def no_module():
    return 3


def tuples():
    return _Tuples()


class _Tuples(nn.Linear):
    def __init__(self):
        super().__init__(4, 3)

    def forward(self, x):
        return super().forward(x), x


def helped():
    return _Helped()


class _Helped(nn.Linear):
    """With the outputs of an auxiliary head, while it trains."""

    def __init__(self):
        super().__init__(4, 3)

    def forward(self, x):
        found = super().forward(x)
        return (found, found) if self.training else found


def frozen():
    return pieces.line().requires_grad_(False)


def failing():
    raise OSError("disk full")


def text():
    return "x.csv"


WRONG = {
    "task": ({"task": "clasification"}, "unknown task 'clasification': choose from classification"),
    "models": ({"models": [pieces.line]}, "models is a list: a dict of functions is needed"),
    "none": ({"models": {}}, "models is empty"),
    "model name": ({"models": {"a-b": pieces.line}}, "models has 'a-b', which is no name"),
    "instance": (
        {"models": {"line": pieces.line()}},
        "models['line'] is a Sequential: a function is needed",
    ),
    "lambda": ({"models": {"l": lambda: pieces.line()}}, "models['l'] is a lambda, which no other"),
    "local": ({"models": {"l": local()}}, "written inside a function, which no other process"),
    "method": ({"models": {"l": Machine().make}}, "models['l'] is a method of an object"),
    "object": ({"models": {"l": Machine()}}, "models['l'] is a Machine: a function is needed"),
    "arguments": ({"models": {"l": pieces.wide}}, "models['l'] needs width, which nothing gives"),
    "partial": (
        {"models": {"l": partial(pieces.wide, width=torch.ones(1))}},
        "models['l'] is a partial with a Tensor: give it numbers",
    ),
    "shared": ({"models": {"l": shared}}, "models['l'] gives the same network each time"),
    "no module": ({"models": {"l": no_module}}, "models['l'] gives a int: a nn.Module is needed"),
    "tuples": ({"models": {"l": tuples}}, "model l gives a tuple: one tensor is needed"),
    "helped": (
        {"models": {"l": helped}},
        "in training mode, model l gives a tuple: one tensor is needed",
    ),
    "frozen": ({"models": {"l": frozen}}, "model l has no parameter to train"),
    "width": (
        {"models": {"l": pieces.single}},
        "model l gives outputs of shape (2, 1) for x of shape (2, 4), float32: (2, 3) is needed",
    ),
    "shape": ({"data": (X[:, :3], Y)}, "model line fails on x of shape (2, 3), float32: Runtime"),
    "no data": ({"data": None}, "data is None: give samples"),
    "path": ({"data": "x.csv"}, "data is a str: a pair x, y of tensors or arrays"),
    "number": ({"data": 3}, "data is a int: a pair x, y"),
    "dict": ({"data": {"x": X, "y": Y}}, "data is a dict: a pair x, y"),
    "array": ({"data": X}, "data is a ndarray of shape (240, 4): a pair x, y"),
    "four": (
        {"data": (X, Y, X, Y)},
        "data is a tuple of 4: a pair x, y of tensors or arrays, or a",
    ),
    "four told": ({"data": (X, Y, X, Y)}, "(give test= apart)"),
    "function fails": (
        {"data": failing},
        "data: test_supervised_input.failing fails: OSError: disk",
    ),
    "function text": ({"data": text}, "data (test_supervised_input.text) is a str: a pair"),
    "lambda data": ({"data": lambda: (X, Y)}, "data is a lambda, which no other process finds"),
    "unequal": ({"data": (X, Y[:-1])}, "data: x has 240 samples, and y has 239"),
    "empty": ({"data": (X[:0], Y[:0])}, "data is empty: it has no samples"),
    "empty test": ({"test": (X[:0], Y[:0])}, "test is empty: it has no samples"),
    "nan x": (
        {"data": (with_value(X, (17, 2), np.nan), Y)},
        "data: x has NaN or infinite values in 1 of 240 samples, the first is sample 17",
    ),
    "object x": ({"data": (X.astype(object), Y)}, "data: x holds object: numbers are needed"),
    "scalar": ({"data": (X, np.float32(1))}, "data: y is a float32: a pair x, y of tensors or"),
    "list x": ({"data": (X.tolist(), Y)}, "data: x is a list of 240: a pair x, y of tensors or"),
    "tuple y": ({"data": (X, (*Y,))}, "data: y is a tuple of 240: a pair x, y of tensors or"),
    "sparse x": (
        {"data": (csr_matrix(X), Y)},
        "data: x is a csr_matrix (give its toarray()): a pair x, y of tensors or arrays",
    ),
    "ragged y": ({"data": (X, [[0], *Y[1:]])}, "data: y cannot become an array: setting an"),
    "mixed y": ({"data": (X, [*WORDS[1:], 1])}, "y holds 1 beside text"),
    "nan y": (
        {"data": (X, with_value(Y, 3, np.nan))},
        "data: y is NaN or infinite in 1 of 240 sam",
    ),
    "nans y": (
        {"task": "regression", "data": (X, with_value(Y, [142, 57], np.nan))},
        "data: y is NaN or infinite in 2 of 240 samples, the first is sample 57: fill or remove",
    ),
    "nan y of items": (
        {"task": "regression", "data": [*zip(X, with_value(Y, [142, 57], np.nan), strict=True)]},
        "data: y is NaN or infinite in 2 of 240 samples, the first is sample 57: fill or remove",
    ),
    "fractions": ({"data": (X, Y + 0.5)}, "is no class: is task='regression' meant?"),
    "numbers": ({"data": pieces.plane}, "which is no class: is task='regression' meant?"),
    "many": ({"data": (X, np.arange(240))}, "240 classes in 192 training samples: is task="),
    "one class": ({"data": (X, Y * 0)}, "all labels are 0: classification needs two classes"),
    "one hot": (
        {"data": (X, np.eye(3)[Y])},
        "y has shape (192, 3): one value a sample is needed (of one-hot targets give y.argmax(1))",
    ),
    "mixed": ({"data": (X, np.array([*"abc", 1] * 60, object))}, "y holds 1 beside text"),
    "dates": ({"data": (X, Y.astype("M8[D]"))}, "y holds datetime64[D]: labels are integers"),
    "only test": (
        {"test": (X[:2], np.array([0, 7]))},
        "class 7 is in the test data only (1 samples): no model can learn it",
    ),
    "text test": (
        {"test": (X[:2], np.array(["a", "b"]))},
        "labels are text in one of training and",
    ),
    "text validation": (
        {"test": (X, Y), "validation": (X[:2], np.array(["a", "b"]))},
        "labels are text in one of training and validation data, and numbers in the other",
    ),
    "known text": (
        {"classes": 4, "data": (X, WORDS)},
        "classes=4, but labels are text of 3 different ones: give classes=3, or none",
    ),
    "known text test": (
        {"classes": 3, "test": (X, WORDS)},
        "labels are text in one of training and test data, and numbers in the other",
    ),
    "few": ({"data": (X[:4], Y[:4] % 2)}, "data has 4 samples, no fifth of which can be the test"),
    "one": ({"data": (X[:1], Y[:1])}, "data has 1 sample, no fifth of which can be the test part"),
    "few numbers": (
        {"task": "regression", "data": (X[:2], Y[:2])},
        "data has 2 samples, no fifth of which can be the test part: give 5 or more, or test=",
    ),
    "classes": ({"classes": 2}, "label 2 is none of the 2 classes: classes=2 are 0 to 1"),
    "batch": (
        {"batch_size": 200},
        "batch size 200 is over the 168 training samples (of 240 in all): set batch_size",
    ),
    "steps": ({"steps": 0}, "budgets['smoke'] has steps 0: a whole number from 1"),
    "recipe": ({"recipe": ("cee", "cosine")}, "unknown loss in recipe 'cee': choose from ce"),
    "optimizer": ({"optimizer": "adam"}, "base_optimizer('line') is a str: an OptimizerSpec"),
    "loader": ({"data": DataLoader(pieces.Plain())}, "data is a DataLoader: give its dataset"),
    "streamed": ({"data": Streamed()}, "data is a Streamed, which has no length or cannot be"),
    "unsized": ({"data": Unsized()}, "data is a Unsized, which has no length or cannot be indexed"),
    "no items": ({"data": pieces.Plain(0)}, "data is empty: it has no samples"),
    "stateful": ({"data": Stateful()}, "data: item 0 differs when it is read again with torch"),
    "triples": ({"data": Triples()}, "data: item 0 is a tuple of 3: a pair x, y is needed"),
    "torn": ({"data": Torn()}, "data: item 0 cannot be read: FileNotFoundError"),
    "objects": ({"data": Objects()}, "data: its items cannot be collated: TypeError"),
    "dropping": (
        {"data": pieces.Plain(), "collate": dropping},
        f"data: collate fails on item 1 alone (it must keep each item): IndexError: list index out "
        f"of range (test_supervised_input.py:{dropping.__code__.co_firstlineno + 1} in dropping)",
    ),
    "torn's line": (
        {"data": Torn()},
        f".png' (test_supervised_input.py:{Torn.__getitem__.__code__.co_firstlineno + 1} in __get",
    ),
    "nan items": ({"data": Gaps()}, "data: x has NaN or infinite values"),
    "opened": ({"data": Opened()}, "data cannot travel to a worker process (TypeError: "),
    "collate": ({"collate": 3, "data": pieces.Plain()}, "collate is a int: a function is needed"),
    "metric": ({"metrics": {"f1": pieces.share_right}}, "metrics['f1'] must be a pair (function, "),
    "direction": ({"metrics": {"f1": (pieces.share_right, "up")}}, "metrics['f1'] must be a pair"),
    "metric name": (
        {"metrics": {"accuracy": (pieces.share_right, "max")}},
        "metrics has 'accuracy', which classification measures already",
    ),
    "metric lambda": (
        {"metrics": {"f1": (lambda p, t: 0.0, "max")}},
        "metrics['f1'] is a lambda, which no other process finds",
    ),
    "primary": (
        {"primary": "accurracy"},
        "unknown primary metric 'accurracy': choose from accuracy",
    ),
    "primary of few classes": (
        {"primary": "top3"},
        "primary metric 'top3' needs more than 3 classes, and data has 3: choose from accuracy",
    ),
    "text regression": (
        {"task": "regression", "data": (X, np.array(["a"] * 240))},
        "y of the training samples holds text: regression needs numbers",
    ),
    "nan validation": (
        {"task": "regression", "validation": (X, with_value(Y, 3, np.nan))},
        "validation: y is NaN or infinite in 1 of 240 samples, the first is sample 3",
    ),
    "text validation numbers": (
        {"task": "regression", "validation": (X, WORDS)},
        "y of the validation samples holds text: regression needs numbers",
    ),
    "two validation targets": (
        {"task": "regression", "validation": (X, np.stack([Y, Y], 1))},
        "y of the validation samples has shape (240, 2): one value a sample is needed",
    ),
    "constant": ({"task": "regression", "data": (X, Y * 0)}, "y is 0 in all 192 training samples"),
    "two targets": (
        {"task": "regression", "data": (X, np.stack([Y, Y], 1))},
        "y of the training samples has shape (192, 2): one value a sample is needed",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_makes_no_sense_is_told_in_one_line_that_names_the_topic(case):
    settings, message = WRONG[case]
    with pytest.raises(UsageError) as caught:
        prepared(**settings)
    line = str(caught.value)
    assert message in line and "\n" not in line and line.startswith("topic 'mine': ")


RIGHT = {
    "tensors": ({"data": (torch.from_numpy(X), torch.from_numpy(Y))}, ""),
    "list of labels": ({"data": (torch.from_numpy(X), Y.tolist())}, ""),
    "list of text": ({"data": (X, WORDS.tolist())}, "labels are taken as 3 classes: 'ant': 0"),
    "tensor dataset": ({"data": TensorDataset(torch.tensor(X), torch.tensor(Y))}, ""),
    "float64": ({"data": (X.astype("float64"), Y)}, "x is float64: taken as float32"),
    "text": (
        {"data": (X, WORDS)},
        "labels are taken as 3 classes: 'ant': 0, 'bee': 1, 'cat': 2",
    ),
    "known text": (
        {"data": (X, WORDS), "classes": 3},
        "labels are taken as 3 classes: 'ant': 0, 'bee': 1, 'cat': 2",
    ),
    "known digits": (
        {"data": (X, Y.astype(str).astype(object)), "classes": 3},
        "labels are taken as 3 classes: '0': 0, '1': 1, '2': 2",
    ),
    "validation column": ({"validation": (X, Y[:, None])}, ""),
    "from one": ({"data": (X, Y + 1)}, "labels are taken as 3 classes: 1: 0, 2: 1, 3: 2"),
    "floats": ({"data": (X, Y.astype("float32"))}, "labels are floats: taken as integers"),
    "column": ({"data": (X, Y[:, None])}, ""),
    "class": ({"models": {"line": pieces.Net}}, ""),
    "partial": ({"models": {"line": partial(pieces.wide, 5)}}, ""),
    "outputs": ({"models": {"line": pieces.curve}}, ""),
    "lazy": ({"models": {"line": pieces.lazy}}, ""),
    "apart": ({"test": (X[:60], Y[:60]), "validation": (X[60:90], Y[60:90])}, None),
    "augmented": ({"data": pieces.pictures}, "its items are random (augmentation), also those"),
    "rare": (
        {"data": (X, with_value(Y, one_in_five(240)[1][:1], 3)), "models": {"line": pieces.curve}},
        "class 3 has no training sample: all fell into the test part",
    ),
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_harmless_is_taken_and_said(case):
    settings, note = RIGHT[case]
    own = prepared(**settings)
    notes = own.data_notes()
    if note is None:
        assert not notes
    else:
        held = "samples) is the test part, for all seeds"
        assert any(held in line for line in notes) and any(note in line for line in notes)


class Words(pieces.Plain):
    """Text labels, of which the second item alone has the third."""

    def __getitem__(self, index):
        x, _ = super().__getitem__(index)
        return x, "cat" if index == 1 else "ant" if index % 2 else "bee"


def test_text_labels_of_known_classes_are_all_read(monkeypatch):
    monkeypatch.setattr(data, "MOST_READ", 10)
    own = prepared(data=Words(), classes=3, batch_size=32)
    assert "labels are taken as 3 classes: 'ant': 0, 'bee': 1, 'cat': 2" in own.data_notes()
    with pytest.raises(UsageError, match="labels are text of 3 different ones"):
        prepared(data=Words(), classes=2, batch_size=32)


def test_numbers_of_the_other_byte_order_are_the_same_data():
    other = tuple(part.astype(part.dtype.newbyteorder()) for part in (X, Y))
    assert prepared(data=other).dataset_id() == prepared().dataset_id()


def test_fields_stay_plain():
    own = topic(metrics={"right": (pieces.share_right, "max")}, optimizer=OptimizerSpec("sgd", 0.1))
    check(own)
    assert own.directions == {"right": "max", "accuracy": "max", "top3": "max", "ece": "min"}
    kept = topic(metrics={"right": (pieces.share_right, "max")}, primary="accuracy")
    assert next(iter(kept.directions)) == "accuracy"
