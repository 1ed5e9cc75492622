"""A training that is judged by what is no finite number is unmeasured, and says by what."""

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
from toy import Toy

from harness.cell import Budget, Cell, Status
from harness.trial.choosing import choose
from harness.trial.outcome import Outcome
from harness.trial.task import Task, judged
from harness.trial.train import train

CELL = Cell("toy", "line", "mse", "cosine")
BUDGET = Budget(6, 8)


@dataclass(frozen=True)
class Odd(Toy):
    """test, valid: what its first metric is on either half."""

    test: float = 1.0
    valid: float = 1.0
    directions: ClassVar[dict] = {"odds": "max", "mse": "min"}

    def evaluate(self, networks, cell):
        return {"odds": self.test, "mse": math.inf}

    def validate(self, networks, cell):
        return {"odds": self.valid, "mse": math.nan}


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("half", ["test", "valid"])
def test_a_primary_metric_that_is_not_finite_is_named_with_its_value(tmp_path, half, value):
    found = train(Task(Odd(**{half: value}), CELL, BUDGET, tmp_path))
    on = "test" if half == "test" else "validation"
    assert found.status is Status.UNMEASURED and not found.failed
    assert found.reason == f"odds on {on} data is not a finite number ({value})"
    assert found.saved and set(found.metrics) == {"odds", "mse"} and found.cost["train_s"] > 0


def test_one_that_only_chooses_is_so_too():
    found = choose(Task(Odd(valid=math.nan), CELL, BUDGET, None))
    assert found.status is Status.UNMEASURED and "validation data" in found.reason


def test_other_metrics_may_be_infinite_and_a_time_that_was_never_reached():
    task = Task(Odd(), CELL, BUDGET, None)
    assert choose(task).status is Status.DONE

    class Timed(Odd):
        directions: ClassVar[dict] = {"steps_to_solve": "min"}

    never = Outcome(metrics={"steps_to_solve": math.nan})
    assert judged(Task(Timed(), CELL, BUDGET, None), never) is never
