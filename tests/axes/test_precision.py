"""What a precision computes in, where it stops, how near it stays to fp32, and where it is not."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from toy import BUDGET, Toy

from harness import matrix
from harness.axes import precision
from harness.cell import PRECISIONS, Cell, Status, UsageError
from harness.runs import Run
from harness.topics.generators.gan import GAN
from harness.topics.regression import Regression
from harness.training.loop import Training
from harness.training.topic import Player
from harness.trial import parity
from harness.trial.task import Task

CELL = Cell("toy", "line", "mse", "cosine")
CPU = torch.device("cpu")


class Wide(Toy):
    """Keeps the types that its objective saw: in its network, of outputs, products and loss."""

    name = "wide"
    seen: list

    def networks(self, cell):
        return {"model": nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))}

    def players(self, cell):
        (player,) = super().players(cell)
        object.__setattr__(self, "seen", [])

        def objective(networks, batch):
            part = networks["model"][0](batch["x"])
            y = networks["model"](batch["x"])
            loss = (y.squeeze(1) - batch["y"]).square().mean() + 0 * (part @ part.T).mean()
            self.seen.append((part.dtype, y.dtype, (y.T @ y).dtype, loss.dtype))
            return loss

        return [Player("player", ("model",), objective, player.optimizer)]


def trained(topic, name, steps=5):
    training = Training(topic, replace(CELL, topic=topic.name, precision=name), BUDGET)
    training.run(steps)
    return training


def test_bf16_runs_networks_in_it_and_all_else_in_float32():
    topic, inside = Wide(), []
    training = Training(topic, replace(CELL, topic="wide", precision="bf16"), BUDGET)
    network = training.networks["model"]
    network[1].register_forward_pre_hook(lambda _, given: inside.append(given[0].dtype))
    training.run(5)
    assert set(topic.seen) == {(torch.float32,) * 4} and inside == [torch.bfloat16] * 5
    training.evaluate()
    assert inside[5:] == [torch.float32]
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in network.parameters()} == {torch.float32}
    assert training.losses[0].dtype is torch.float32


def test_a_network_that_fails_leaves_nothing_in_bf16():
    class Failing(nn.Module):
        def forward(self, x):
            raise ZeroDivisionError

    network = nn.Sequential(nn.Linear(2, 2), Failing())
    precision.prepared("bf16", {"model": network}, CPU)
    x = torch.ones(1, 2)
    for _ in range(2):
        with precision.objective("bf16"), pytest.raises(ZeroDivisionError):
            network(x)
        assert not torch.is_autocast_enabled("cpu")
    with precision.objective("bf16"):
        assert network[0](x).dtype is torch.float32
        assert (x @ x.T).dtype is torch.float32


def test_bf16_trains_otherwise_than_fp32_and_evaluates_as_it():
    plain, coarse = trained(Toy(), "fp32", 20), trained(Toy(), "bf16", 20)
    assert plain.curve()["loss"] != coarse.curve()["loss"]
    state = {name: net.state_dict() for name, net in coarse.networks.items()}
    plain.networks["model"].load_state_dict(state["model"])
    assert plain.evaluate() == coarse.evaluate()


def test_tf32_is_on_for_a_step_only_and_off_after_an_error():
    flags = []

    def now():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = now()
    with precision.step("tf32", CPU):
        flags.append(now())
    with pytest.raises(ZeroDivisionError), precision.step("tf32", CPU):
        raise ZeroDivisionError
    with precision.step("bf16", CPU):
        flags.append(now())
    assert flags == [(True, True), before] and now() == before


def test_compiled_trains_as_fp32_and_its_checkpoint_is_a_plain_network_s():
    plain, compiled = trained(Toy(), "fp32"), trained(Toy(), "compiled")
    assert compiled.layout.called["player"]["model"] is not compiled.networks["model"]
    assert compiled.curve()["loss"] == pytest.approx(plain.curve()["loss"], rel=1e-5)
    assert (
        compiled.state_dict()["networks"]["model"].keys()
        == plain.networks["model"].state_dict().keys()
    )
    assert compiled.evaluate()["mse"] == pytest.approx(plain.evaluate()["mse"], rel=1e-4)


def test_an_id_names_a_precision_that_is_not_fp32():
    ids = [
        replace(CELL, precision=name, rate=0.3, settings=(("bf16", "2"),)).id for name in PRECISIONS
    ]
    assert ids[0] == "toy/line-mse-cosine-single-r0.3-bf16-2-s0"
    assert ids[2] == "toy/line-mse-cosine-single-bf16-r0.3-bf16-2-s0"
    assert [Cell.parse(text).precision for text in ids] == list(PRECISIONS)
    assert [Cell.parse(text).id for text in ids] == ids
    assert Cell.parse("toy/line-mse-cosine-single-bf16-s1") == replace(
        CELL, precision="bf16", seed=1
    )
    with pytest.raises(UsageError, match="unknown precision 'fp16': choose from bf16, compiled"):
        replace(CELL, precision="fp16")


@pytest.mark.parametrize(
    ("topic", "cell", "why"),
    [
        (Toy(), {"precision": "tf32"}, "tf32 is how a GPU multiplies: there is none here"),
        (Toy(), {"precision": "bf16", "parallel": "dp"}, "under dp it would be float16"),
        (Toy(), {"precision": "compiled", "parallel": "fsdp"}, "not trained under fsdp here"),
        (Regression(), {"model": "tree", "precision": "bf16"}, "scikit-learn fits tree"),
        (
            GAN(),
            {"model": "wgan_gp", "loss": "hinge", "precision": "compiled"},
            "torch.compile does",
        ),
    ],
)
def test_a_precision_that_cannot_be_is_skipped_with_the_reason(topic, cell, why):
    cell = replace(CELL, topic=topic.name, schedule="constant", **cell)
    assert why in matrix.skip_reason(topic, cell)


def test_no_compiler_is_a_reason_too(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert "needs a C++ compiler, and there is no" in precision.skip_reason("compiled", "single", 0)
    assert precision.skip_reason("bf16", "single", 0) is None


def test_what_is_further_from_fp32_than_allowed_is_said(monkeypatch, tmp_path):
    task = Task(Toy(), replace(CELL, precision="bf16"), BUDGET, tmp_path)
    assert parity.applies(task)
    found = parity.measure(task, 0)
    assert found.exact and found.equal and 1e-5 < found.difference < 0.3
    monkeypatch.setitem(precision.TOLERANCES, "bf16", 1e-6)
    found = parity.measure(task, 0)
    assert found.equal is False and found.reason.endswith("1e-06 allowed): bf16 is too coarse here")


def test_dropout_draws_compiled_what_it_draws_uncompiled(tmp_path):
    cell = replace(CELL, model="dropout", precision="compiled")
    found = parity.measure(Task(Toy(), cell, BUDGET, tmp_path), 0)
    assert found.equal and found.difference < 1e-5


@pytest.mark.parametrize("ranks", ["single", "ddp"])
def test_a_bf16_cell_is_audited_and_known_by_its_precision(ranks, tmp_path):
    run = Run(tmp_path, {"toy": Toy()}, "smoke", report=lambda line: None)
    cells = [replace(CELL, parallel=ranks, precision=name) for name in ("fp32", "bf16")]
    try:
        run.start(cells)
        run.finish()
    finally:
        run.close()
    plain, coarse = (run.records[cell] for cell in cells)
    assert plain.fingerprint != coarse.fingerprint
    assert coarse.status is Status.DONE
    coarse.check()
    assert coarse.parity["equal"] and coarse.parity["difference"] > 1e-5
    assert coarse.metrics != plain.metrics


class Twice(Toy):
    """Goes back through its network's graph twice for one loss."""

    def players(self, cell):
        (player,) = super().players(cell)

        def objective(networks, batch):
            loss = player.objective(networks, batch)
            own = list(networks["model"].parameters())
            torch.autograd.grad(loss, own, retain_graph=True)
            return loss

        return [replace(player, objective=objective)]


def test_an_objective_may_go_back_twice_through_what_is_compiled():
    cell = replace(CELL, model="dropout")
    both = []
    for name in ("fp32", "compiled"):
        training = Training(Twice(), replace(cell, precision=name), BUDGET, watched_steps=1)
        training.advance()
        both.append(training.gradients[0])
    torch.testing.assert_close(*both, rtol=1e-4, atol=1e-6)
