"""Three tasks on one trunk: figures, families, resuming, ranks, bad input."""

import dataclasses

import pytest
import torch
from toy import run

from harness.axes import losses
from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell, UsageError
from harness.progress import headline
from harness.results.record import Record
from harness.runs import Run
from harness.topics import datasets
from harness.topics.multitask import multitask, scenes
from harness.topics.multitask.multitask import MODELS, TASKS, Multitask, scores
from harness.topics.multitask.task_losses import present, task_losses
from harness.training.loop import Training
from harness.trial.task import Task

CELL = Cell("multitask", "equal", *Multitask.recipe)
SMALL = Budget(steps=6, batch_size=8, samples=100, timeout_s=120)
OF_TASK = {
    "classification": {"accuracy"},
    "detection": {"box_iou", "ap50"},
    "segmentation": {"miou"},
}


def cell(model="equal", loss="ce", **more):
    return dataclasses.replace(CELL, model=model, loss=loss, **more)


def test_the_recipe_reaches_its_figures_on_scenes_of_one_digit():
    topic = Multitask()
    training = Training(topic, CELL, topic.budgets["quick"])
    training.run(training.budget.steps)
    found = training.evaluate()
    assert found["single_accuracy"] >= 0.90
    assert found["single_box_iou"] >= 0.60
    assert found["single_miou"] >= 0.70
    baseline = topic.baseline(CELL)
    assert all(found[name] > baseline[name] for name in topic.directions)


@pytest.mark.parametrize("family", losses.FAMILIES)
def test_every_family_trains_all_networks(family):
    training = Training(Multitask(), cell("uncertainty", family), SMALL)
    before = {name: p.detach().clone() for name, p in parameters(training)}
    training.run(2)
    still = [name for name, p in parameters(training) if torch.equal(p, before[name])]
    assert not still
    found = training.evaluate()
    assert all(0 <= found[name] <= 1 for name in Multitask.directions)


def parameters(training):
    for name, network in training.networks.items():
        yield from ((f"{name}.{n}", p) for n, p in network.named_parameters())


def test_classification_survives_a_schedule_that_begins_at_the_full_rate():
    """Two thirds of its features died with ReLUs: the same for all scenes, whatever is there."""
    topic, cell = Multitask(), Cell("multitask", "equal", "ce", "constant")
    training = Training(topic, cell, Budget(steps=200, batch_size=32))
    training.run(200)
    networks, seen = training.networks, []
    networks["classification"].answer.register_forward_pre_hook(lambda _, given: seen.extend(given))
    with torch.no_grad():
        networks["classification"](networks["trunk"](topic.held_out(3).x[:128]))
    differ_F = seen[0].std(0) > 1e-3
    assert differ_F.float().mean() > 0.9


@pytest.mark.parametrize("model", MODELS)
def test_a_model_has_the_metrics_of_its_tasks(model):
    topic = Multitask()
    expected = set().union(*(OF_TASK[task] for task in MODELS[model]))
    networks = topic.networks(cell(model))
    found = topic.evaluate(networks, cell(model))
    assert set(found) == expected | {f"single_{name}" for name in expected}
    (player,) = topic.players(cell(model))
    assert set(player.networks) == set(networks)


def test_alone_is_the_same_trunk_and_head():
    torch.manual_seed(0)
    together = Multitask().networks(CELL)
    for metric, model in Multitask.alone.items():
        torch.manual_seed(0)
        alone = Multitask().networks(cell(model))
        (task,) = MODELS[model]
        assert metric in OF_TASK[task]
        for name in ("trunk", task):
            shapes = [p.shape for p in alone[name].parameters()]
            assert shapes == [p.shape for p in together[name].parameters()]
        for name, weights in alone["trunk"].state_dict().items():
            assert torch.equal(weights, together["trunk"].state_dict()[name])


@pytest.mark.parametrize("model", ["uncertainty", "pcgrad"])
def test_it_resumes_bit_for_bit(model):
    whole = Training(Multitask(), cell(model), SMALL)
    whole.run(3)
    middle = whole.state_dict()
    whole.run(6)
    resumed = Training(Multitask(), cell(model), SMALL)
    resumed.load_state_dict(middle)
    resumed.run(6)
    for (_, one), (_, other) in zip(parameters(whole), parameters(resumed), strict=True):
        assert torch.equal(one, other)


def test_models_see_the_same_scenes():
    one, other = (Training(Multitask(), cell(m), SMALL) for m in ("equal", "pcgrad"))
    assert torch.equal(one.batches.draw(4)["x"], other.batches.draw(4)["x"])


def test_every_task_is_a_mean_over_scenes_so_shards_average_exactly():
    training = Training(Multitask(), CELL, SMALL)
    batch = training.batches.draw(8)
    halves = [{name: t[half] for name, t in batch.items()} for half in (slice(4), slice(4, 8))]
    (player,) = training.players
    with torch.no_grad():
        whole = player.objective(training.networks, batch)
        parts = [player.objective(training.networks, half) for half in halves]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_perfect_outputs_score_1_and_have_the_least_loss():
    topic = Multitask()
    found = topic.held_out(scenes.MOST)
    small = scenes.Scenes(*(t[:32] for t in found))
    perfect, wrong = outputs(small, topic.canvas), outputs(small, topic.canvas, shift=1)
    assert scores(perfect, small, "mse", topic.canvas) == pytest.approx(
        {"accuracy": 1, "ap50": 1, "box_iou": 1, "miou": 1}
    )
    for task, loss in task_losses("mse", topic.canvas).items():
        assert loss(perfect[task], small._asdict()) < 1e-6
        assert loss(wrong[task], small._asdict()) > 0.1


def outputs(scene, canvas, shift=0):
    """What heads that know the scene would say under mse; shift moves every answer on."""
    sure = 50.0
    asked = present(scene.label).roll(shift, 1)
    there = torch.zeros(len(scene.x), 9).scatter(1, scene.cell, (scene.label > 0).float())
    sides = torch.zeros(len(scene.x), 9, 4)
    target = 4 * canvas.sides(scene.box, scene.cell) - 2 + shift
    sides.scatter_(1, scene.cell[..., None].expand(-1, -1, 4), target)
    mask = (scene.mask + shift) % multitask.LABELS
    one_hot = torch.nn.functional.one_hot
    return {
        "classification": sure * one_hot(asked, 2).float(),
        "detection": torch.cat([sure * torch.stack([1 - there, there], -1), sides], -1),
        "segmentation": sure * one_hot(mask, multitask.LABELS).float(),
    }


def test_held_out_scenes_are_of_held_out_digits(monkeypatch):
    topic = Multitask()
    split = datasets.images("digits")
    blank = split._replace(test_x=torch.zeros_like(split.test_x))
    monkeypatch.setattr(datasets, "images", lambda *_: blank)
    assert not topic.held_out(1).x.any()
    drawn = Training(topic, CELL, SMALL).batches.draw(4)
    assert drawn["x"].any()


class Descent(Multitask):
    """By plain gradient descent, in which a wrong gradient shows at its size."""

    def base_optimizer(self, model):
        return OptimizerSpec("sgd", lr=0.02, momentum=0.0)


@pytest.mark.parametrize("model", ["pcgrad", "uncertainty"])
def test_two_ranks_train_as_one_and_their_checkpoints_come_back(tmp_path, model):
    """PCGrad of the whole batch: the mean of each rank's own PCGrad is another gradient."""
    cells = [cell(model, schedule="constant", parallel=p) for p in ("single", "ddp")]
    tasks = [Task(Descent(), c, SMALL, tmp_path, world_size=1 + n) for n, c in enumerate(cells)]
    single, ddp = run(tmp_path, *tasks)
    assert ddp.parity.equal
    for audit in (single.audited, ddp.audited):
        assert (audit.state_equal, audit.resume_equal, audit.metrics_equal) == (True,) * 3
    assert ddp.curve["loss"] == pytest.approx(single.curve["loss"], rel=2e-5)


def test_pcgrad_says_why_it_is_skipped_where_parameters_are_in_shards():
    topic = Multitask()
    assert "shards" in topic.skip(cell("pcgrad", parallel="fsdp"))
    assert topic.skip(cell("equal", parallel="fsdp")) is None
    assert topic.skip(cell("pcgrad", parallel="ddp")) is None


def test_pcgrad_is_not_taken_in_parts(tmp_path):
    """The mean of the parts' projected gradients is another gradient."""
    whole, parts = (
        Run(tmp_path, {"multitask": Multitask()}, "quick", accumulate=n) for n in (1, 2)
    )
    assert "needs the batch undivided" in parts.skip_reason(cell("pcgrad"))
    assert whole.skip_reason(cell("pcgrad")) is None and parts.skip_reason(CELL) is None


@pytest.mark.parametrize("shape", [(1, 28), (3, 32)])
def test_larger_images_make_larger_scenes(shape, monkeypatch):
    channels, size = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(1, 256, (40, channels, size, size), generator=generator).to(torch.uint8)
    y = torch.randint(10, (40,), generator=generator)
    name = "mnist" if channels == 1 else "cifar10"
    monkeypatch.setattr(datasets, "images", lambda *_: datasets.Split(x, y, x, y, "0" * 12))
    monkeypatch.setattr(multitask, "HELD_OUT", 8)
    topic = Multitask(dataset=name)
    training = Training(topic, CELL, SMALL)
    training.run(1)
    assert training.batches.draw(2)["x"].shape == (2, channels, 48, 48)
    assert set(topic.directions) <= set(training.evaluate())


def test_bad_input_is_named(tmp_path):
    with pytest.raises(UsageError, match="needs --data-dir"):
        Multitask(dataset="mnist").dataset_id()
    with pytest.raises(UsageError, match="unknown dataset 'digit': choose from digits"):
        Multitask(dataset="digit").dataset_id()
    with pytest.raises(UsageError, match="unknown loss 'l1'"):
        Training(Multitask(), cell(loss="l1"), SMALL)


def test_the_headline_is_the_first_metric_that_the_model_has():
    record = Record(
        cell("only_detection"),
        "f",
        "done",
        metrics={"ap50": 0.5, "box_iou": 0.25},
        directions=dict(Multitask.directions),
    )
    assert headline(record) == "box_iou 0.25"


def test_tasks_and_models():
    assert all(MODELS[model] == TASKS for model in ("equal", "uncertainty", "pcgrad"))
    assert set(Multitask.alone.values()) == {f"only_{task}" for task in TASKS}
