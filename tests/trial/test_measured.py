"""What a topic's evaluate returns becomes metrics, or one line that says what is wrong."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from toy import Toy, outcome

from harness.cell import Budget, Cell, UsageError
from harness.trial.task import Task, measured


@dataclass(frozen=True)
class Tasks(Toy):
    alone: ClassVar = {"mae": "dropout"}


def task(model="line"):
    return Task(Tasks(), Cell("toy", model, "mse", "cosine"), Budget(2, 8), None)


def test_metrics_are_numbers_and_the_rest_is_kept():
    values: dict[str, Any] = {
        "mse": torch.tensor([0.5]),
        "r2": np.float32(0.25),
        "other": torch.tensor(3),
        "count": np.int64(7),
        "how": "by hand",
        "parts": {"a": [1, 2.5]},
    }
    metrics, rest = measured(task(), values)
    assert metrics == {"mse": 0.5, "r2": 0.25}
    assert rest == {"other": 3, "count": 7, "how": "by hand", "parts": {"a": [1, 2.5]}}
    assert {type(value) for value in metrics.values()} == {float}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "no 'mse', the primary metric: it returned nothing"),
        ({"acc": 1.0, "n": 3}, "no 'mse', the primary metric: it returned 'acc', 'n'"),
        ({"mae": 1.0}, "no 'mse', the primary metric: it returned 'mae'"),
        ({"mse": torch.ones(2, 2)}, "mse = tensor([[1., 1.], [1., 1.]]): a metric is one number"),
        ({"mse": None}, "mse = None: a metric is one number"),
        ({"mse": True}, "mse = True: a metric is one number"),
        ({"mse": "0.5"}, "mse = '0.5': a metric is one number"),
        ({"mse": 1.0, "each": torch.ones(2)}, "each = tensor([1., 1.]): numbers, text, lists"),
        (0.5, "evaluate returned a float: a dict is needed"),
        (None, "evaluate returned a NoneType: a dict is needed"),
    ],
)
def test_what_is_no_metric_is_told_in_one_line(values, message):
    with pytest.raises(UsageError) as caught:
        measured(task(), values)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_model_of_one_task_needs_that_task_s_metric():
    assert measured(task("dropout"), {"mae": 1.0}) == ({"mae": 1.0}, {})
    with pytest.raises(UsageError, match="no 'mae', which dropout is to measure"):
        measured(task("dropout"), {"mse": 1.0})


def test_a_baseline_may_lack_what_cannot_be_had_without_training():
    assert measured(task(), {"mae": 1.0}, "baseline") == ({"mae": 1.0}, {})
    with pytest.raises(UsageError, match="baseline returned mse = None"):
        measured(task(), {"mse": None}, "baseline")


@dataclass(frozen=True)
class Misnamed(Toy):
    def evaluate(self, networks, cell):
        return {"MSE": 0.5}


@pytest.mark.parametrize("configuration", ["single", "ddp"])
def test_the_cell_fails_with_the_reason(configuration, executor, tmp_path):
    ranks = 1 if configuration == "single" else 2
    cell = Cell("toy", "line", "mse", "cosine", configuration)
    found = outcome(executor, Misnamed(), cell, tmp_path, ranks)
    assert found.status == "failed"
    assert "evaluate returned no 'mse', the primary metric: it returned 'MSE'" in found.reason
