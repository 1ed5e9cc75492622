"""What a project brings to the axes trains in worker processes as what is built in does."""

import brought
import pytest
import torch
import toy
from toy import BUDGET, Toy

from harness import Supervised, checkpoint, matrix
from harness.axes import losses, registry
from harness.cell import Cell
from harness.training.loop import Training


class Deep(Toy):
    """The toy's line, by a network of two layers."""

    def networks(self, cell):
        return {"model": brought.mlp(losses.numeric(cell.loss, -4, 4).width)}


@pytest.fixture(autouse=True)
def bring():
    before = registry.own()
    registry.add("losses", [brought.LogCosh()])
    registry.add("schedules", [brought.Restarts()])
    registry.add("optimizers", [[brought.NoBiasDecay(), brought.ScheduleFree()]])
    registry.add("parallel", [[brought.Fp16(), brought.Hybrid(), brought.Tensors()]])
    yield
    registry.take(before)


def outcome(executor, folder, ranks=1, **values):
    told = {"model": "line", "loss": "mse", "schedule": "cosine"} | values
    cell = Cell("toy", **told)
    return toy.outcome(executor, Deep(), cell, folder, ranks)


def holds(found):
    assert found.status == "done", found
    audit = found.audited
    assert (audit.state_equal, audit.resume_equal, audit.metrics_equal) == (True,) * 3
    assert found.metrics["mse"] < found.baseline["mse"]


@pytest.mark.parametrize(
    "values",
    [
        {"loss": "log_cosh"},
        {"schedule": "restarts"},
        {"schedule": "wsd"},
        {"schedule": "linear_decay"},
        {"schedule": "adamw"},
        {"schedule": "muon"},
        {"schedule": "no_bias_decay"},
        {"schedule": "schedule_free"},
    ],
    ids=lambda values: "-".join(values.values()),
)
def test_it_trains_and_its_checkpoints_come_back(executor, tmp_path, values):
    holds(outcome(executor, tmp_path, **values))


@pytest.mark.parametrize(
    ("parallel", "ranks"), [("ddp_fp16", 2), ("hsdp", 2), ("hsdp", 4), ("tensors", 2)]
)
def test_a_configuration_is_exact_or_says_why_not(executor, tmp_path, parallel, ranks):
    found = outcome(executor, tmp_path, ranks, parallel=parallel)
    holds(found)
    if parallel == "ddp_fp16":
        assert found.parity.equal is None
        assert found.parity.reason == "gradients travel in float16"
    else:
        assert found.parity.equal and found.parity.difference < 1e-5


@pytest.mark.parametrize("parallel", ["hsdp", "tensors"])
def test_a_supervised_topic_trains_under_ones_own_configuration(executor, tmp_path, parallel):
    topic = Supervised(
        "mine",
        models={"mlp": brought.perceptron},
        data=brought.samples,
        task="regression",
        batch_size=8,
    )
    cell = Cell("mine", "mlp", "mse", "cosine", parallel)
    found = toy.outcome(executor, topic, cell, tmp_path)
    holds(found)
    assert found.parity.equal and found.parity.difference < 1e-5


@pytest.mark.parametrize("parallel", ["single", "local_sgd"])
def test_the_final_checkpoint_holds_the_mean_that_was_measured(executor, tmp_path, parallel):
    ranks = 1 if parallel == "single" else 2
    found = outcome(executor, tmp_path, ranks, schedule="schedule_free", parallel=parallel)
    cell = Cell("toy", "line", "mse", "schedule_free", parallel)
    tree = checkpoint.load(tmp_path / "checkpoints" / cell.id / "final.pt")
    network = Deep().networks(cell)["model"]
    network.load_state_dict(tree["networks"]["model"])
    measured = Deep().evaluate({"model": network}, cell)
    assert {name: measured[name] for name in found.metrics} == found.metrics


def test_a_checkpoint_of_four_ranks_goes_on_in_the_right_mode(executor, tmp_path):
    holds(outcome(executor, tmp_path, 4, schedule="schedule_free", parallel="ddp"))


def test_looking_at_the_mean_leaves_the_training_as_it_is():
    pytest.importorskip("schedulefree")

    def training(looks):
        made = Training(Deep(), Cell("toy", "line", "mse", "schedule_free"), BUDGET)
        seen = []
        made.run(12, lambda _: seen.append(made.validate()) if looks else None)
        return torch.stack(made.losses), made.networks["model"].state_dict(), seen

    (losses, state, seen), (alone, other, _) = training(True), training(False)
    assert torch.equal(losses, alone) and all(torch.equal(state[k], other[k]) for k in state)
    assert seen[-1] != seen[0]


CANNOT = {("muon", "zero1"), ("muon", "fsdp"), ("schedule_free", "zero1")}


@pytest.mark.parametrize("parallel", ["ddp", "zero1", "fsdp", "local_sgd"])
@pytest.mark.parametrize("schedule", ["adamw", "muon", "no_bias_decay", "schedule_free"])
def test_optimizers_meet_the_parallel_configurations(executor, tmp_path, parallel, schedule):
    cell = Cell("toy", "line", "mse", schedule, parallel)
    if why := matrix.skip_reason(Deep(), cell):
        assert (schedule, parallel) in CANNOT, why
        return
    found = outcome(executor, tmp_path, 2, parallel=parallel, schedule=schedule)
    holds(found)


def test_a_worker_has_what_its_task_brings_and_nothing_older(executor, tmp_path):
    holds(outcome(executor, tmp_path, loss="log_cosh"))
    registry.take(())
    found = outcome(executor, tmp_path, loss="log_cosh")
    assert found.status == "failed" and "unknown loss 'log_cosh'" in found.reason
