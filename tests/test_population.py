"""A population's members against the same cells trained alone, and what becomes of each."""

import os
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

sys.path.insert(0, os.path.dirname(__file__))
from toy import Toy

from harness import checkpoint
from harness.axes import losses, schedules
from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell
from harness.checkpoint import tree
from harness.cli import main
from harness.results.store import Store
from harness.run import Run
from harness.topics.generators.vae import VAE
from harness.topics.registry import registered_topics
from harness.topics.regression import Regression
from harness.training import agreement
from harness.training.loop import Diverged, Training
from harness.training.population import optimizers as rules
from harness.training.population import stacking
from harness.training.population.population import Population
from harness.training.population.stacking import NotStackable
from harness.trial import cost, population
from harness.trial.grouping import SMALLEST, Grouping
from harness.trial.outcome import PopulationOutcome
from harness.trial.task import Task

BUDGET = Budget(steps=100, batch_size=64)
SHORT = Budget(steps=20, batch_size=8)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Crowded(Toy):
    """Toy cells that may train together; seed 3 explodes if ``explode`` says so.

    together: what happens under vmap only: none, die, raise.
    """

    explode: bool = False
    together: str = "none"

    populates: ClassVar[tuple[str, ...]] = ("line", "dropout")

    def players(self, cell):
        (player,) = super().players(cell)

        def objective(networks, batch):
            if not isinstance(networks["model"], nn.Module) and self.together == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if not isinstance(networks["model"], nn.Module) and self.together == "raise":
                raise ValueError("planted under vmap")
            return player.objective(networks, batch)

        rate = 1e20 if self.explode and cell.seed == 3 else 0.05
        return [replace(player, objective=objective, optimizer=replace(player.optimizer, lr=rate))]


def cells(count=8, model="line", loss="mse", schedule="cosine"):
    return [Cell("toy", model, loss, schedule, seed=seed) for seed in range(count)]


def alone(topic, cell, budget):
    training = Training(topic, cell, budget)
    training.run(budget.steps)
    return training


def together(topic, some, budget):
    trained = Population(topic, some, budget)
    trained.run(budget.steps)
    trained.update_members()
    trained.update_histories()
    return trained


def weights(training):
    return torch.cat(
        [p.detach().flatten() for n in training.networks.values() for p in n.parameters()]
    )


def differ(first, second):
    return ((first - second).norm() / first.norm()).item()


@pytest.mark.parametrize("loss", losses.FAMILIES)
def test_an_mlp_is_the_one_trained_alone_within_1e_5_after_100_steps(loss):
    some = [
        Cell("regression", "mlp", loss, name, seed=s) for s in (0, 1) for name in schedules.NAMES
    ]
    trained = together(Regression(), some, BUDGET)
    for member in trained.members[::2]:
        single = alone(Regression(), member.cell, BUDGET)
        assert differ(weights(single), weights(member)) < 1e-5
        assert member.rates == single.rates
        assert agreement.difference(single.curve(), member.curve()) <= agreement.TOLERANCE
        assert member.evaluate() == pytest.approx(single.evaluate(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("model", ["linear", "svr"])
def test_so_are_linear_and_svr(model):
    some = [Cell("regression", model, "mse", name) for name in schedules.NAMES]
    for member in together(Regression(), some, BUDGET).members:
        single = alone(Regression(), member.cell, BUDGET)
        assert differ(weights(single), weights(member)) < 1e-5
        assert member.rates == single.rates


VAE_BUDGET = Budget(steps=60, batch_size=32)


def vaes(loss, names):
    return Population(VAE(), [Cell("vae", "vae", loss, name) for name in names], VAE_BUDGET)


@pytest.mark.parametrize("loss", ["ce", "mae"])
def test_a_vae_s_losses_are_within_1e_4_after_20_steps_of_adam(loss):
    trained = vaes(loss, ("constant", "one_cycle"))
    trained.run(20)
    trained.update_members()
    trained.update_histories()
    for member in trained.members:
        single = Training(VAE(), member.cell, VAE_BUDGET)
        single.run(20)
        first, second = torch.stack(single.losses), torch.stack(member.losses)
        assert ((first - second) / first).abs().max() < agreement.TOLERANCE
        assert member.rates == single.rates


@pytest.mark.parametrize("loss", ["ce", "mae"])
def test_each_of_a_vae_s_steps_is_the_one_taken_alone_from_the_same_place(loss):
    """Over many steps that need not hold under rmsprop: its first step moves every weight by ten
    times its rate, however small the gradient, until a ReLU's input is a rounding away from 0. A
    training alone then departs from itself as far (1.3e-3 in 20 steps when each weight was moved by
    one rounding). So the places are made equal before each step.
    """
    trained = vaes(loss, ("constant", "rmsprop", "one_cycle"))
    singles = [Training(VAE(), member.cell, VAE_BUDGET) for member in trained.members]
    for _ in range(20):
        trained.update_members()
        for single, member in zip(singles, trained.members, strict=True):
            for name, network in single.networks.items():
                network.load_state_dict(member.networks[name].state_dict())
            state = tree.plain(stacking.optimizer(member).state_dict())
            stacking.optimizer(single).load_state_dict(state)
        before = [weights(single) for single in singles]
        trained.run(trained.step + 1)
        trained.update_members()
        for place, (single, member) in enumerate(zip(singles, trained.members, strict=True)):
            single.run(single.step + 1)
            alone_loss = single.losses[-1].item()
            assert trained.losses[-1][place].item() == pytest.approx(alone_loss, rel=1e-6)
            moved = differ(weights(single) - before[place], weights(member) - before[place])
            assert moved < 1e-4


@pytest.mark.parametrize("kind", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_rule_does_what_torch_s_optimizer_does_at_each_member_s_rate(kind, decay, momentum):
    base = OptimizerSpec(kind, lr=0.1, weight_decay=decay, momentum=momentum)
    values = [nn.Parameter(torch.randn(7, dtype=torch.float64)) for _ in range(3)]
    rates = [0.1, 0.02, 1e-3]
    optimizers = [base.build(kind, [value]) for value in values]
    rule, options = rules.rule(optimizers[0]), rules.options_of(optimizers[0])
    stack = torch.stack([value.detach().clone() for value in values])
    moments = {name: torch.zeros_like(stack) for name in rule.moments}
    for step in range(1, 31):
        gradient = torch.randn(3, 7, dtype=torch.float64)
        for place, optimizer in enumerate(optimizers):
            values[place].grad = gradient[place].clone()
            optimizer.param_groups[0]["lr"] = rates[place]
            optimizer.step()
        divisor, root = rule.corrections(step, options)
        rate = torch.tensor(rates, dtype=torch.float64)[:, None] / divisor
        rule.apply(stack, gradient, moments, rate, torch.tensor(root, dtype=torch.float64), options)
    expected = torch.stack([value.detach() for value in values])
    torch.testing.assert_close(stack, expected, rtol=1e-9, atol=1e-12)
    for name in rule.moments:
        kept = torch.stack([o.state[v][name] for o, v in zip(optimizers, values, strict=True)])
        torch.testing.assert_close(moments[name], kept, rtol=1e-12, atol=0)


def test_options_without_a_rule_are_refused():
    one = [nn.Parameter(torch.zeros(1))]
    assert rules.rule(torch.optim.SGD(one, 0.1, momentum=0.9, nesterov=True)) is None
    assert rules.rule(torch.optim.Adam(one, amsgrad=True)) is None
    assert rules.rule(torch.optim.AdamW(one)) is None
    assert rules.rule(torch.optim.RMSprop(one, centered=True)) is None


@pytest.mark.parametrize("explode", [False, True])
def test_where_one_ended_the_others_checkpoints_still_come_back(tmp_path, explode):
    tasks = [Task(Crowded(explode=explode), cell, SHORT, tmp_path) for cell in cells()]
    (task,) = Grouping().group(tasks)
    made = population._population(task, torch.device("cpu"))
    outcome = PopulationOutcome(population._train(task, made, cost.Clock()))
    found = population.audit(task, 0, outcome.saved)
    assert len(found) == 8 - explode
    for check in found.values():
        assert (check.state_equal, check.resume_equal, check.metrics_equal) == (True,) * 3


def test_one_that_diverges_leaves_the_others_bit_for_bit_as_they_were():
    calm, wild = (together(Crowded(explode=e), cells(), SHORT) for e in (False, True))
    with pytest.raises(Diverged) as single:
        alone(Crowded(explode=True), cells()[3], SHORT)
    assert {c.seed: str(e) for c, e in wild.ended.items()} == {3: str(single.value)}
    for first, second in zip(calm.members, wild.members, strict=True):
        if first.cell.seed != 3:
            assert torch.equal(weights(first), weights(second))
            assert first.curve() == second.curve()
    assert len(wild.members[3].losses) == 10  # up to where it was seen, as alone


@pytest.mark.parametrize("schedule", schedules.NAMES)
def test_a_population_resumes_bit_for_bit_and_a_member_alone_within_tolerance(schedule):
    some = cells(3, schedule=schedule)
    whole = Population(Crowded(), some, SHORT)
    whole.run(9)
    whole.update_members()
    kept = [member.state_dict() for member in whole.members]
    whole.run(20)
    whole.update_members()
    resumed = Population(Crowded(), some, SHORT)
    for member, snapshot in zip(resumed.members, kept, strict=True):
        member.load_state_dict(snapshot)
    resumed.update_rows()
    resumed.run(20)
    resumed.update_members()
    single = Training(Crowded(), some[0], SHORT)
    single.load_state_dict(kept[0])
    single.run(20)
    ends = [checkpoint.digest([m.state_dict() for m in p.members]) for p in (whole, resumed)]
    assert ends[0] == ends[1]
    assert differ(weights(whole.members[0]), weights(single)) < 1e-5


def test_a_compiled_population_is_the_eager_one_within_1e_5():
    some = cells(4) + cells(4, schedule="adam")
    compiled = Population(Crowded(), some, SHORT)
    if note := population._compile(compiled):
        pytest.skip(note)
    compiled.run(20)
    compiled.update_members()
    for member, other in zip(
        compiled.members, together(Crowded(), some, SHORT).members, strict=True
    ):
        assert member.cell == other.cell and differ(weights(other), weights(member)) < 1e-5


def test_what_cannot_be_compiled_goes_on_and_says_why(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no C++ compiler\nand more")

    monkeypatch.setattr(torch, "compile", refuse)
    trained = Population(Crowded(), cells(2), SHORT)
    assert population._compile(trained) == "not compiled: RuntimeError: no C++ compiler"
    trained.run(2)


class Acting(Crowded):
    """Its networks change between the steps as well."""

    def each_step(self, networks, cell, step, steps):
        pass


@pytest.mark.parametrize(
    ("topic", "some", "reason"),
    [
        (Crowded(), cells(2, model="dropout"), "vmap refuses"),
        (Toy(), cells(2), "does not name line"),
        (Acting(), cells(2), "change between the steps"),
        (Crowded(), cells(1) + cells(1, loss="ce"), "another model or loss"),
        (Crowded(together="raise"), cells(2), "planted under vmap"),
    ],
)
def test_cells_that_cannot_train_as_one_say_why(topic, some, reason):
    with pytest.raises(NotStackable, match=reason):
        Population(topic, some, SHORT)


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
        assert training.evaluate() == record.metrics
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


def test_curves_of_other_rates_or_lengths_are_not_within_any_tolerance():
    curve = {"step": [50.0, 100.0, 150.0], "loss": [1.0, 0.5, 0.1], "lr": [0.1, 0.1, 0.1]}
    later = {**curve, "loss": [1.0, 0.5, 9.0]}
    assert agreement.difference(curve, later) == 0
    assert agreement.difference(curve, {**curve, "loss": [1.0, 0.55, 0.1]}) == pytest.approx(0.1)
    assert agreement.difference(curve, {**curve, "lr": [0.1, 0.2, 0.1]}) == float("inf")
    assert agreement.difference(curve, {}) == float("inf")


CELLS = st.builds(
    Cell,
    st.just("toy"),
    st.sampled_from(["line", "dropout", "other"]),
    st.sampled_from(["mse", "ce"]),
    st.sampled_from(schedules.NAMES),
    st.sampled_from(["single", "ddp"]),
    st.integers(0, 3),
)


@settings(max_examples=50, deadline=None)
@given(some=st.lists(CELLS, unique=True, max_size=80), most=st.sampled_from([1, 8, 32]))
def test_grouping_keeps_every_cell_once_and_only_like_ones_together(some, most):
    tasks = [Task(Crowded(), cell, SHORT, Path("run")) for cell in some]
    found = Grouping(most).group(tasks)
    assert sorted(cell for task in found for cell in task.cells) == sorted(some)
    for task in found:
        if isinstance(task, population.PopulationTask):
            assert SMALLEST <= len(task.tasks) <= most
            assert {own.cell.parallel for own in task.tasks} == {"single"}
            assert len({(own.cell.model, own.cell.loss) for own in task.tasks}) == 1
            assert task.cell.model in Crowded.populates
