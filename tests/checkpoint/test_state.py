"""A training's snapshot, and going on from it only where it fits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small import OPTIMIZERS, SCHEDULES, Run

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
