"""Validation during a training: what it measures, and that the training does not notice."""

from dataclasses import replace

import pytest
import torch
from toy import BUDGET, Toy
from toy_population import SHORT, Crowded, cells

from harness.cell import Cell, Status
from harness.training.loop import Training
from harness.trial import cost, population
from harness.trial.grouping import Grouping
from harness.trial.task import Task
from harness.trial.train import train

CELL = Cell("toy", "dropout", "mse", "cosine")


def trained(folder, looks, topic=None, **more):
    return train(Task(topic or Toy(), CELL, replace(BUDGET, looks=looks), folder, **more))


def test_a_training_does_not_notice_that_it_is_looked_at(tmp_path):
    plain, seen = (trained(tmp_path / str(looks), looks) for looks in (0, 5))
    assert plain.held_out == {}
    for name in ("metrics", "validation", "curve", "baseline"):
        assert getattr(plain, name) == getattr(seen, name), name
    assert plain.saved.replayed_digest == seen.saved.replayed_digest


def test_each_look_is_the_validation_of_that_step(tmp_path):
    seen = trained(tmp_path, 4)
    assert seen.held_out["step"] == [5, 10, 15, 20]
    training = Training(Toy(), CELL, BUDGET)
    for index, step in enumerate((5, 10, 15, 20)):
        training.run(step)
        assert training.validate()["mse"] == seen.held_out["mse"][index]
    assert seen.held_out["mse"][-1] == seen.validation["mse"]


def test_more_looks_than_steps_are_one_a_step(tmp_path):
    assert trained(tmp_path, 50).held_out["step"] == list(range(1, 21))


def test_what_diverged_was_seen_up_to_there(tmp_path):
    found = trained(tmp_path, 4, Toy(misbehave="nan", at=12))
    assert found.status is Status.DIVERGED
    assert found.held_out["step"][:2] == [5, 10] and found.held_out["step"][-1] < 20


class Strict(Toy):
    def validate(self, networks, cell):
        values = super().validate(networks, cell)
        if values["mse"] != values["mse"]:
            raise ValueError("these networks cannot be measured")
        return values


def test_networks_that_are_not_finite_any_more_are_not_measured(tmp_path):
    found = trained(tmp_path, 20, Strict(misbehave="nan", at=14))
    assert found.status is Status.DIVERGED and found.diverged_at == 15
    assert found.held_out["step"] == list(range(1, 15))


def test_what_goes_on_from_its_middle_has_no_curve_of_half(tmp_path):
    first = trained(tmp_path, 4)
    again = trained(tmp_path, 4, attempt=1)
    assert again.held_out == {} and again.validation == first.validation


def test_a_metric_that_comes_late_is_nan_before(tmp_path, monkeypatch):
    values = iter([{"mse": 1.0}, {"mse": 0.5, "r2": 0.1}, {"mse": 0.4}])
    monkeypatch.setattr(Toy, "validate", lambda self, networks, cell: next(values))
    seen = trained(tmp_path, 3).held_out
    assert seen["mse"] == [1.0, 0.5, 0.4] and [v == v for v in seen["r2"]] == [False, True, False]


def test_members_of_a_population_are_looked_at_as_alone(tmp_path):
    budget = replace(SHORT, looks=4)
    tasks = [Task(Crowded(), cell, budget, tmp_path) for cell in cells()]
    (task,) = Grouping().group(tasks)
    found = population._train(task, population._population(task, torch.device("cpu")), cost.Clock())
    one = train(Task(Crowded(), cells()[2], budget, tmp_path / "alone"))
    together = found[cells()[2].id].held_out
    assert together["step"] == one.held_out["step"] == [5, 10, 15, 20]
    assert together["mse"] == pytest.approx(one.held_out["mse"], rel=1e-4)
