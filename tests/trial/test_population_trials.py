"""What becomes of a population's cells: audited, refused, dead, or as they would be alone."""

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn
from toy_population import SHORT, Crowded, Duel, cells, differ, together, weights

from harness import checkpoint
from harness.cell import Cell
from harness.cli import main
from harness.results.store import Store
from harness.runs import Run
from harness.topics.registry import registered_topics
from harness.training.loop import Training
from harness.training.population.population import Population
from harness.trial import cost, population
from harness.trial.grouping import Grouping
from harness.trial.outcome import PopulationOutcome
from harness.trial.task import Task
from harness.trial.train import train as train_cell


@pytest.mark.parametrize(
    ("topic", "left"),
    [
        (Crowded(), 8),
        (Crowded(explode=True), 7),
        (Duel(), 8),
        (Duel(explode=True), 7),
        (Duel(fail=True), 7),
    ],
)
def test_where_one_ended_the_others_checkpoints_still_come_back(tmp_path, topic, left):
    tasks = [Task(topic, cell, SHORT, tmp_path) for cell in cells()]
    (task,) = Grouping().group(tasks)
    made = population._population(task, torch.device("cpu"))
    outcome = PopulationOutcome(population._train(task, made, cost.Clock()))
    found = population.audit(task, 0, outcome.saved)
    assert len(found) == left
    for check in found.values():
        assert (check.state_equal, check.resume_equal, check.metrics_equal) == (True,) * 3


def test_a_member_s_energy_is_its_share_of_the_population_s(tmp_path, monkeypatch):
    used = []
    advance = Population.advance
    monkeypatch.setattr(Population, "advance", lambda own: used.append(4.0) or advance(own))
    tasks = [Task(Crowded(), cell, SHORT, tmp_path) for cell in cells()]
    (task,) = Grouping().group(tasks)
    made = population._population(task, torch.device("cpu"))
    clock = cost.Clock(counter=lambda: sum(used))
    found = population._train(task, made, clock)
    energies = [outcome.cost["energy_j"] for outcome in found.values()]
    assert energies == pytest.approx([4.0 * SHORT.steps / len(tasks)] * len(tasks))


class Aliased(nn.Linear):
    """Its weight is called by another name, under which no member's is put in its place."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.weights = [self.weight]

    def forward(self, x):
        return x @ self.weights[0].T + self.bias


class Warming(nn.Linear):
    """It counts its calls where no trace looks."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.calls = [0]

    def forward(self, x):
        self.calls[0] += 1
        return super().forward(x) * min(1, self.calls[0] / 10)


def of_layers(layer):
    class Layered(Crowded):
        def networks(self, cell):
            return {"model": nn.Sequential(layer(3, 1))}

    return Layered()


@pytest.fixture
def paying(monkeypatch):
    """Populations pay, however fast a machine makes their steps."""
    monkeypatch.setattr(population, "PAYS", 1e-3)


@pytest.mark.parametrize("layer", [Aliased, Warming])
def test_members_that_would_not_train_as_alone_are_trained_alone(tmp_path, paying, layer):
    tasks = [Task(of_layers(layer), cell, SHORT, tmp_path) for cell in cells()]
    (task,) = Grouping().group(tasks)
    outcome = population.train(task)
    assert "do not train as they would alone: losses differ by" in outcome.separate
    assert not outcome.members


@pytest.mark.parametrize("topic", [Crowded(), Crowded(explode=True), Duel(), of_layers(nn.Linear)])
def test_the_last_member_is_compared_at_its_own_rate_and_schedule(tmp_path, paying, topic):
    some = cells(4) + cells(4, schedule="rmsprop")
    tasks = [
        Task(topic, cell, SHORT, tmp_path, rate=1.0 + place) for place, cell in enumerate(some)
    ]
    (task,) = Grouping().group(tasks)
    outcome = population.train(task)
    assert not outcome.separate and len(outcome.members) == 8


class Drawn(Crowded):
    """It notes how many samples it was asked for."""

    generates: ClassVar[bool] = True
    asked: ClassVar[list] = []

    def sample(self, networks, cell, count, generator):
        self.asked.append(count)
        return torch.zeros(count, 1, 2, 2, dtype=torch.uint8)


@pytest.mark.parametrize("looks", [4, 10, 20])
def test_the_timed_steps_pass_no_look_over(tmp_path, paying, looks):
    budget = replace(SHORT, looks=looks)
    tasks = [Task(Drawn(), cell, budget, tmp_path) for cell in cells()]
    (task,) = Grouping().group(tasks)
    Drawn.asked.clear()
    found = population.train(task).members[cells()[2].id].held_out
    shown = Drawn.asked.copy()
    Drawn.asked.clear()
    one = train_cell(Task(Drawn(), cells()[2], budget, tmp_path / "alone")).held_out
    assert sorted(shown) == sorted(len(tasks) * Drawn.asked)
    assert found["step"] == one["step"] == [20 // looks * part for part in range(1, looks + 1)]
    assert found["mse"] == pytest.approx(one["mse"], rel=1e-4)


def test_a_population_shares_its_gpu_as_its_cells_would(tmp_path):
    tasks = [Task(Crowded(), cell, SHORT, tmp_path, per_gpu=4) for cell in cells()]
    (task,) = Grouping().group(tasks)
    assert task.per_gpu == 4


@pytest.mark.parametrize("topic", [Crowded(), Duel()])
def test_a_compiled_population_is_the_eager_one_within_1e_5(topic):
    some = cells(4) + cells(4, schedule="adam")
    compiled = Population(topic, some, SHORT)
    if note := population._compile(compiled):
        pytest.skip(note)
    compiled.run(20)
    compiled.update_members()
    for member, other in zip(compiled.members, together(topic, some, SHORT).members, strict=True):
        assert member.cell == other.cell and differ(weights(other), weights(member)) < 1e-5


def test_what_cannot_be_compiled_goes_on_and_says_why(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no C++ compiler\nand more")

    monkeypatch.setattr(torch, "compile", refuse)
    trained = Population(Crowded(), cells(2), SHORT)
    assert population._compile(trained) == "not compiled: RuntimeError: no C++ compiler"
    trained.run(2)


def run(folder, topic, some):
    lines = []
    found = Run(folder, {"toy": topic}, "smoke", report=lines.append)
    try:
        found.start(some)
        found.finish()
    finally:
        found.close()
    return found, lines


def test_a_population_leaves_what_its_cells_would_leave_alone(tmp_path):
    found, _ = run(tmp_path, Crowded(explode=True), cells())
    records = list(Store(tmp_path))
    assert [r.status for r in records] == ["done"] * 3 + ["diverged"] + ["done"] * 4
    assert {r.population for r in records} == {8}
    run(tmp_path / "alone", Crowded(), cells(1))
    (one,) = Store(tmp_path / "alone")
    assert vars(one).keys() == vars(records[0]).keys() and one.population == 1
    assert one.cost.keys() == records[0].cost.keys()
    assert one.checkpoint.keys() == records[0].checkpoint.keys()
    assert one.fingerprint != "" and one.metrics == pytest.approx(records[0].metrics, rel=1e-4)
    for record in records[:3]:
        checks = ("state_equal", "resume_equal", "metrics_equal")
        assert [record.checkpoint[name] for name in checks] == [True] * 3
        content = checkpoint.load(found.store.checkpoint(record.cell, "final"))
        training = Training(Crowded(), record.cell, found.budget(record.cell))
        training.load_state_dict(content)
        assert record.metrics.items() <= training.evaluate().items()
        assert record.validation.items() <= training.validate().items()
    assert "not finite at step 2" in records[3].reason
    assert records[3].curve["step"] and not records[3].checkpoint


@pytest.mark.parametrize(
    ("topic", "model", "reason"),
    [
        (Crowded(together="die"), "line", "killed by SIGKILL"),
        (Crowded(), "dropout", "vmap refuses"),
    ],
)
def test_a_population_that_dies_or_is_refused_costs_no_cell(tmp_path, topic, model, reason):
    found, lines = run(tmp_path, topic, cells(model=model))
    assert {(r.status, r.population) for r in found.records.values()} == {("done", 1)}
    assert len(found.records) == 8 and any(reason in line for line in lines)


def test_replay_of_a_member_is_within_the_tolerance_and_says_so(tmp_path, capsys):
    some = [Cell("regression", "linear", "mse", "cosine", seed=seed) for seed in range(8)]
    found = Run(tmp_path, registered_topics(), "smoke", report=lambda line: None)
    found.start(some)
    found.finish()
    found.close()
    assert found.records[some[0]].population in (1, 8)  # whether it pays is measured
    assert main(["replay", some[0].id, "--profile", "smoke", "--run-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert ("a population of 8" if found.records[some[0]].population == 8 else "bit") in said


def test_populations_at_work_at_once_that_are_refused_train_each_cell_once(tmp_path):
    some = [cell for loss in ("mse", "huber") for cell in cells(model="dropout", loss=loss)]
    found, lines = run(tmp_path, Crowded(), some)
    assert len(found.records) == 16
    assert len([line for line in lines if "run one by one" in line]) == 2
    assert len([line for line in lines if line.startswith("[")]) == 16
