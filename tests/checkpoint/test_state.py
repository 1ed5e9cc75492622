"""A training's snapshot, and going on from it only where it fits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small import OPTIMIZERS, SCHEDULES, Net, Run
from torch import nn, optim

from harness import checkpoint
from harness.checkpoint import CheckpointError, digest, state


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("opt", OPTIMIZERS)
def test_resumed_training_equals_the_uninterrupted(opt: str, schedule: str, tmp_path: Path) -> None:
    whole = Run(opt, schedule).train(0, 5)
    path = tmp_path / "middle.pt"
    content = whole.state_dict(step=5)
    before = digest(content)
    checkpoint.save(path, content)
    whole.train(5, 12)
    assert digest(content) == before, "training went on in the snapshot"

    loaded = checkpoint.load(path)
    assert digest(loaded) == before
    resumed = Run(opt, schedule, seed=1)
    assert resumed.digest() != before
    state.restore(loaded, *resumed.parts)
    assert digest(resumed.state_dict(step=5)) == before
    assert resumed.train(5, 12).digest() == whole.digest()
    assert digest(loaded) == before, "training went on in what was loaded"


Spoil = Callable[[dict[str, Any]], object]


def at(content: dict[str, Any], part: str) -> Any:
    return content[part]["model"]["state"]


SPOILT: dict[str, tuple[Spoil, str]] = {
    "no_networks": (lambda c: c.pop("networks"), "networks"),
    "other_network": (lambda c: c["networks"].update(ghost={}), "ghost"),
    "tensor_missing": (lambda c: c["networks"]["model"].pop("head.bias"), "missing head.bias"),
    "tensor_unexpected": (
        lambda c: c["networks"]["model"].update(extra=torch.ones(1)),
        "unexpected extra",
    ),
    # the last tensor: all the others come before it, and fit
    "tensor_shape": (
        lambda c: c["networks"]["model"].update({"head2.bias": torch.ones(7)}),
        r"reshaped head2.bias \(\[7\] float32 saved, \[2\] float32 here\)",
    ),
    "tensor_dtype": (
        lambda c: c["networks"]["model"].update({"head2.bias": torch.ones(2).double()}),
        r"\[2\] float64 saved",
    ),
    "no_tensor": (lambda c: c["networks"]["model"].update({"head2.bias": 3}), "int saved"),
    "network_is_a_number": (lambda c: c["networks"].update(model=3), "not what snapshot makes"),
    "optimizer_kind": (lambda c: c["optimizers"]["model"].update(kind="SGD"), "SGD, here is Adam"),
    "optimizer_name": (lambda c: c["optimizers"].update(x=c["optimizers"].pop("model")), "'x'"),
    "optimizer_incomplete": (lambda c: c["optimizers"]["model"].pop("state"), "not what snapshot"),
    "no_groups": (lambda c: at(c, "optimizers")["param_groups"].clear(), "groups of"),
    "parameters": (
        lambda c: at(c, "optimizers")["param_groups"][0]["params"].pop(),
        "groups of",
    ),
    "state_shape": (
        lambda c: at(c, "optimizers")["state"][7].update(exp_avg=torch.ones(9)),
        "exp_avg of parameter 7",
    ),
    "state_dtype": (
        lambda c: at(c, "optimizers")["state"][7].update(exp_avg=torch.ones(2).half()),
        "exp_avg of parameter 7",
    ),
    "state_scalar": (
        lambda c: at(c, "optimizers")["state"][7].update(exp_avg_sq=torch.tensor(1.0)),
        "exp_avg_sq of parameter 7",
    ),
    "step_shape": (
        lambda c: at(c, "optimizers")["state"][7].update(step=torch.ones(3)),
        "step of parameter 7",
    ),
    "state_of_nothing": (
        lambda c: at(c, "optimizers")["state"].update({99: {"exp_avg": torch.ones(2)}}),
        "99",
    ),
    "schedule_kind": (
        lambda c: c["schedules"]["model"].update(kind="StepLR"),
        r"StepLR, here is SequentialLR\(LinearLR, CosineAnnealingLR\)",
    ),
    "schedule_nested_kind": (
        lambda c: c["schedules"]["model"].update(kind="SequentialLR(LinearLR, ExponentialLR)"),
        "ExponentialLR",
    ),
    "schedule_state": (lambda c: at(c, "schedules").pop("last_epoch"), "lacks .'last_epoch'"),
    "schedule_nested_state": (
        lambda c: at(c, "schedules")["_schedulers"][1].pop("T_max"),
        "lacks .'T_max'",
    ),
    "schedule_nested_count": (lambda c: at(c, "schedules")["_schedulers"].pop(), "not what snap"),
    "no_schedules": (lambda c: c["schedules"].clear(), "schedules"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_does_not_fit_is_refused_and_changes_nothing(case: str) -> None:
    spoil, message = SPOILT[case]
    content = Run("adam", "sequential").train(0, 4).state_dict()
    spoil(content)
    run = Run("adam", "sequential", seed=1).train(0, 2)
    before = run.digest()
    for action in (state.validate, state.restore):
        with pytest.raises(CheckpointError, match=message):
            action(content, *run.parts)
        assert run.digest() == before


@pytest.mark.parametrize(
    ("opt", "schedule"),
    [("sgd", "sequential"), ("rmsprop", "sequential"), ("adam", "cosine"), ("adam", "onecycle")],
)
def test_the_wrong_classes_are_refused(opt: str, schedule: str) -> None:
    content = Run("adam", "sequential").train(0, 4).state_dict()
    run = Run(opt, schedule, seed=1).train(0, 2)
    before = run.digest()
    with pytest.raises(CheckpointError, match="the checkpoint holds"):
        state.restore(content, *run.parts)
    assert run.digest() == before


def test_validate_accepts_what_fits_and_changes_nothing() -> None:
    content = Run("adam", "sequential").train(0, 4).state_dict()
    run = Run("adam", "sequential", seed=1)
    before, expected = run.digest(), digest(content)
    state.validate(content, *run.parts)
    assert run.digest() == before != expected
    state.restore(content, *run.parts)
    assert run.digest() == expected


EVERY = {  # optimizer of torch's, with whatever shapes its state has
    "adafactor": lambda network: optim.Adafactor(network.parameters(), 0.01),
    "adagrad": lambda network: optim.Adagrad(network.parameters(), 0.01),
    "adadelta": lambda network: optim.Adadelta(network.parameters(), 0.1),
    "adamax": lambda network: optim.Adamax(network.parameters(), 0.01),
    "adamw": lambda network: optim.AdamW(network.parameters(), 0.01, amsgrad=True),
    "asgd": lambda network: optim.ASGD(network.parameters(), 0.01),
    "muon": lambda network: optim.Muon([p for p in network.parameters() if p.ndim == 2], 0.01),
    "nadam": lambda network: optim.NAdam(network.parameters(), 0.01),
    "radam": lambda network: optim.RAdam(network.parameters(), 0.01),
    "rprop": lambda network: optim.Rprop(network.parameters(), 0.01),
    "accumulating": lambda network: Accumulating(network.parameters(), {"lr": 0.01}),
}


class Accumulating(optim.Optimizer):
    """Of somebody's own: it keeps a number for each row, and a whole average from step 3 on."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state.setdefault("rows", parameter.new_zeros(len(parameter)))
                state["rows"] += parameter.grad.reshape(len(parameter), -1).square().sum(1)
                state["count"] = state.get("count", 0) + 1
                if state["count"] >= 3:
                    state["mean"] = state.get("mean", 0) + parameter.grad
                parameter.sub_(parameter.grad, alpha=group["lr"])


def run_with(make: Callable[[nn.Module], optim.Optimizer], seed: int = 0) -> Run:
    run = Run("adam", "cosine", seed)
    run.optimizer = make(run.network)
    run.schedule = SCHEDULES["cosine"](run.optimizer)
    run.parts = ({"model": run.network}, {"model": run.optimizer}, {"model": run.schedule})
    return run


@pytest.mark.parametrize("name", EVERY)
def test_every_optimizer_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole = run_with(EVERY[name]).train(0, 5)
    checkpoint.save(tmp_path / "c.pt", whole.state_dict())
    resumed = run_with(EVERY[name], seed=1)
    hooked: list[object] = []
    resumed.optimizer.register_step_pre_hook(lambda *_: hooked.append(1))
    state.restore(checkpoint.load(tmp_path / "c.pt"), *resumed.parts)
    assert not hooked, "looking at the shapes is no step"
    assert resumed.digest() == whole.digest()
    assert resumed.train(5, 12).digest() == whole.train(5, 12).digest()


@pytest.mark.parametrize(
    ("name", "index", "key", "value", "message"),
    [
        ("adafactor", 0, "row_var", torch.ones(4, 1), "[4, 1] float32, here [5, 1] float32"),
        ("adafactor", 0, "row_var", torch.ones(5, 4), "[5, 4] float32, here [5, 1] float32"),
        ("adafactor", 0, "col_var", torch.ones(1, 4).double(), "here [1, 4] float32"),
        ("adafactor", 1, "variance", torch.ones(5, 1), "here [5] float32"),
        ("adafactor", 0, "step", torch.ones(3), "step of parameter 0 is [3] float32, here []"),
        ("adafactor", 0, "exp_avg", torch.ones(5, 1), "its parameter [5, 4] float32"),
        ("adamw", 0, "exp_avg", torch.ones(5, 1), "its parameter [5, 4] float32"),
        ("adadelta", 0, "square_avg", torch.ones(1, 4), "its parameter [5, 4] float32"),
        ("accumulating", 0, "rows", torch.ones(4), "rows of parameter 0 is [4] float32, here [5]"),
    ],
)
def test_state_of_other_shapes_than_the_optimizer_s_is_refused(
    name: str, index: int, key: str, value: torch.Tensor, message: str
) -> None:
    content = run_with(EVERY[name]).train(0, 4).state_dict()
    at(content, "optimizers")["state"][index][key] = value
    run = run_with(EVERY[name], seed=1).train(0, 2)
    before = run.digest()
    with pytest.raises(CheckpointError) as caught:
        state.restore(content, *run.parts)
    assert message in str(caught.value) and run.digest() == before


def test_sparse_adam_resumes() -> None:
    def trained(table: nn.Embedding, optimizer: optim.Optimizer, steps: range) -> None:
        for step in steps:
            optimizer.zero_grad()
            table(torch.tensor([step % 3, 1])).square().sum().backward()
            optimizer.step()

    def made() -> tuple[nn.Embedding, optim.Optimizer]:
        torch.manual_seed(0)
        table = nn.Embedding(4, 2, sparse=True)
        return table, optim.SparseAdam(table.parameters(), 0.1)

    table, optimizer = made()
    trained(table, optimizer, range(4))
    content = state.snapshot({"t": table}, {"o": optimizer}, {})
    other, its = made()
    state.restore(content, {"t": other}, {"o": its}, {})
    trained(table, optimizer, range(4, 8))
    trained(other, its, range(4, 8))
    assert torch.equal(table.weight, other.weight)


def test_lbfgs_is_refused_in_words() -> None:
    network = Net()
    optimizer = optim.LBFGS(network.parameters())

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = network(torch.ones(6, 4))
        loss.backward()
        return loss

    optimizer.step(closure)
    content = state.snapshot({}, {"o": optimizer}, {})
    with pytest.raises(CheckpointError, match="optimizer o: what state LBFGS keeps cannot be told"):
        state.restore(content, {}, {"o": optimizer}, {})


@pytest.mark.parametrize(
    ("options", "where"),
    [({"fused": True}, "meta"), ({"capturable": True}, "meta"), ({}, "cpu")],
)
def test_steps_are_counted_where_torch_counts_them(options: dict[str, bool], where: str) -> None:
    """On meta, a device of which every process has one: a fused kernel reads the count there."""
    parameter = nn.Parameter(torch.ones(2, device="meta"))
    optimizer = optim.Adam([parameter], **options)
    optimizer.state[parameter]["step"] = torch.tensor(3.0)
    state.place_steps(optimizer)
    assert optimizer.state[parameter]["step"].device.type == where
