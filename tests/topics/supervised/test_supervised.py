"""A topic from one's own models and data: trained, measured, over ranks, and as a population."""

import dataclasses
import pickle
from dataclasses import replace
from functools import partial

import cloudpickle
import numpy as np
import pieces
import pytest
import torch
from torch.utils.data import ConcatDataset, Subset
from toy import outcome, run

from harness import matrix
from harness.axes.losses import FAMILIES
from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell, UsageError
from harness.execution.process import packed
from harness.restored import _like
from harness.runs import Run
from harness.settings import Settings
from harness.topics import Supervised, metrics
from harness.topics.datasets import one_in_five
from harness.topics.supervised.given import Given
from harness.topics.supervised.samples import opened
from harness.training.loop import Training
from harness.trial.task import Task

CELL = Cell("mine", "line", "ce", "cosine")
BUDGET = Budget(steps=60, batch_size=32, timeout_s=120)
SHORT = Budget(steps=8, batch_size=32, timeout_s=120)
MODELS = {"line": pieces.line, "normed": pieces.normed, "dropped": pieces.dropped}


def classifier(**settings):
    told = {"models": MODELS, "data": pieces.blobs, "task": "classification"}
    return Supervised("mine", **(told | settings))


def regressor(**settings):
    told = {"models": {"curve": pieces.curve, "single": pieces.single}, "data": pieces.plane}
    return Supervised("mine", **(told | {"task": "regression"} | settings))


def trained(topic, cell, budget=BUDGET):
    training = Training(topic, cell, budget)
    training.run(budget.steps)
    return training


@pytest.mark.parametrize("loss", FAMILIES)
def test_it_learns_classes_under_every_loss(loss):
    topic = classifier(models={"line": partial(pieces.wide, 16)})
    cell = replace(CELL, loss=loss)
    found = trained(topic, cell).evaluate()
    assert found["accuracy"] > topic.baseline(cell)["accuracy"] + 0.1
    assert "top3" not in found and set(found) >= {"accuracy", "ece", "accuracy_se"}


@pytest.mark.parametrize("loss", FAMILIES)
def test_it_learns_numbers_under_every_loss_histograms_too(loss):
    cell = Cell("mine", "curve", loss, "cosine")
    topic = regressor(optimizer=OptimizerSpec("adam", lr=0.01))
    assert trained(topic, cell, replace(BUDGET, steps=200)).validate()["r2"] > 0.5


def test_a_model_of_one_output_is_skipped_under_histograms_with_the_reason():
    cells = {loss: Cell("mine", "single", loss, "cosine") for loss in FAMILIES}
    reasons = {loss: matrix.skip_reason(regressor(), cell) for loss, cell in cells.items()}
    assert {loss for loss, reason in reasons.items() if reason} == {"ce", "kl", "log_loss"}
    assert reasons["ce"] == ("ce needs 32 outputs, and single has 1: let its function take outputs")
    assert matrix.skip_reason(regressor(), replace(cells["ce"], model="curve")) is None


def test_own_metrics_see_probabilities_or_the_data_s_own_units():
    own = {"right": (pieces.share_right, "max")}
    found = trained(classifier(metrics=own), CELL).evaluate()
    assert float(found["right"]) == pytest.approx(found["accuracy"])
    topic = regressor(metrics={"largest": (pieces.largest_error, "min")})
    cell = Cell("mine", "single", "mse", "cosine")
    training = trained(topic, cell)
    x, y = pieces.plane()
    test = topic._data.test.rows
    with torch.no_grad():
        z = training.networks["model"](torch.from_numpy(x)[test])[:, 0]
    rest = np.delete(y, test.numpy())
    expected = np.abs(z.numpy() * rest.std() + rest.mean() - y[test.numpy()]).max()
    found = training.evaluate()
    assert float(found["largest"]) == pytest.approx(expected, rel=1e-4)
    in_sd = (torch.from_numpy(y)[test] - rest.mean()) / rest.std()
    assert found["mse"] == pytest.approx(metrics.regression(z, in_sd)["mse"], rel=1e-5)


def test_test_data_is_the_same_for_all_seeds_and_eight_seeds_validate_on_all_the_rest():
    data = classifier()._data
    folds = [data.fold(seed) for seed in range(8)]
    assert len(data.test) == 48 and len(data.train) == 192
    validation = torch.cat([part.rows for _, part in folds])
    assert sorted(validation.tolist()) == sorted(data.train.rows.tolist())
    for train, held in folds:
        own = [set(part.rows.tolist()) for part in (train, held, data.test)]
        assert sum(map(len, own)) == len(set.union(*own)) == 240


def test_data_given_apart_is_used_so():
    x, y = pieces.blobs()
    parts = {"data": (x[:100], y[:100]), "test": (x[100:], y[100:]), "validation": (x[:9], y[:9])}
    data = classifier(**parts)._data
    assert [len(data.train), len(data.test), len(data.fold(3)[1])] == [100, 140, 9]


def by_class():
    x, y = pieces.blobs()
    order = y.argsort(kind="stable")
    return x[order], y[order]


def rows(topic, seed=0, samples=None):
    """The rows that a cell of this seed draws its batches from."""
    cell, budget = replace(CELL, seed=seed), replace(BUDGET, samples=samples)
    return topic.batches(cell, budget, {}, torch.Generator(), torch.device("cpu")).rows


@pytest.mark.parametrize("given", [{}, {"validation": pieces.blobs}])
def test_of_data_sorted_by_class_all_classes_train_and_validate(given):
    topic, y = classifier(data=by_class, test=pieces.blobs, **given), by_class()[1]
    for seed in range(8):
        counts = np.bincount(y[rows(topic, seed)], minlength=3)
        assert counts.sum() == (240 if given else 210) and counts.min() > 60
        validation = topic._data.fold(seed)[1]
        assert np.bincount(validation.samples.y[validation.rows], minlength=3).min() > 1
        few = rows(topic, seed, 64)
        assert np.bincount(y[few], minlength=3).min() > 10
        assert torch.equal(rows(topic, seed, 128)[:64], few) and len(few.unique()) == 64


def test_samples_that_were_drawn_at_random_already_stay_as_they_are():
    train, test = one_in_five(240)
    topic = classifier()
    assert torch.equal(topic._data.test.rows, test)
    assert torch.equal(rows(topic, 1), torch.cat([train[:24], train[48:]]))
    assert torch.equal(rows(topic, 1, 64), rows(topic, 1)[:64])
    assert torch.equal(rows(classifier(validation=pieces.blobs), 1, 64), train[:64])
    apart = classifier(test=pieces.blobs, validation=pieces.blobs)
    assert torch.equal(rows(apart, 1, 240), torch.arange(240))


def level():
    return pieces.plane()[0], np.full(240, 0.1)


def test_r2_of_numbers_that_are_all_the_same_is_not_measured():
    cell = Cell("mine", "single", "mse", "cosine")
    found = trained(regressor(validation=level), cell, SHORT).validate()
    assert np.isnan(found["r2"]) and np.isfinite(found["mse"])


@pytest.mark.parametrize("name", ["ddp", "fsdp", "zero1"])
@pytest.mark.parametrize("data", [pieces.blobs, pieces.pictures])
def test_ranks_train_as_one_process_does_augmentation_included(executor, tmp_path, name, data):
    cell = replace(CELL, parallel=name)
    found = outcome(executor, classifier(data=data), cell, tmp_path, 2, budget=SHORT)
    assert found.status == "done", found
    assert found.parity.equal and found.parity.difference < 1e-5
    audit = found.audited
    assert (audit.state_equal, audit.resume_equal, audit.metrics_equal) == (True,) * 3


@pytest.mark.parametrize("kind", ["itself", "subset", "subset of both"])
def test_a_dataset_may_open_its_file_at_the_first_item(executor, tmp_path, kind):
    (tmp_path / "file").write_text("open")
    data = pieces.Opened(str(tmp_path / "file"))
    if kind != "itself":
        data = Subset(ConcatDataset([data, data]) if kind == "subset of both" else data, range(90))
    topic = classifier(data=data, batch_size=32)
    topic.prepare()
    assert topic.data_notes() and outcome(executor, topic, CELL, tmp_path, 1, budget=SHORT).saved
    packed(trained, Task(topic, CELL, SHORT, tmp_path))


def test_datasets_that_hold_each_other_are_copied_once():
    one, other = pieces.Pictures(), pieces.Pictures()
    one.other, other.other = other, one
    found = opened("data", Given("data", one), None).dataset
    assert found is not one and found.other is not other and found.other.other is found


def test_parts_of_a_batch_train_as_the_whole(executor, tmp_path):
    topic = classifier(data=pieces.pictures)
    found = outcome(executor, topic, CELL, tmp_path, 1, accumulate=4, budget=SHORT)
    assert found.parity.equal and found.audited.resume_equal


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("normed", "BatchNorm1d in model: statistics per rank"),
        ("dropped", "Dropout in model: random numbers per rank"),
    ],
)
def test_layers_that_ranks_have_of_their_own_are_named(executor, tmp_path, model, reason):
    cell = replace(CELL, model=model, parallel="ddp")
    found = outcome(executor, classifier(), cell, tmp_path, 2, budget=SHORT)
    assert found.status == "done" and found.parity.equal is None
    assert reason in found.parity.reason and found.audited.resume_equal


def test_tensors_train_as_a_population(tmp_path):
    x, y = pieces.blobs()
    for topic in (classifier(), classifier(data=(x, y))):
        assert topic.populates == tuple(MODELS)
    assert classifier(data=pieces.Pictures()).populates == ()
    run_ = Run(tmp_path, {"mine": classifier(steps=40)}, "quick", report=lambda line: None)
    cells = [replace(CELL, seed=seed) for seed in range(8)]
    run_.start(cells)
    try:
        run_.finish()
    finally:
        run_.close()
    assert {run_.records[cell].status for cell in cells} == {"done"}
    assert {run_.records[cell].population for cell in cells} == {8}


def test_settings_come_back_from_a_checkpoint():
    topic = classifier(optimizer=replace(classifier().optimizer, lr=0.1), steps=7)
    saved = dataclasses.asdict(topic)
    assert all(isinstance(v, dict | tuple | str | int | float | None) for v in saved.values())
    own = classifier()
    again = replace(own, **{name: _like(getattr(own, name), v) for name, v in saved.items()})
    assert again == topic and hash(again) == hash(topic) and again != own
    more = classifier(models=MODELS | {"lazy": pieces.lazy})
    assert _like(more.models, saved["models"]) is more.models


def test_what_holds_functions_and_data_is_no_setting():
    topic = classifier(metrics={"own": (pieces.line, "max")})
    for path in ("data.name", "models.named", "metrics.better", "metrics.functions.named"):
        with pytest.raises(UsageError):
            Settings.of([(f"mine.{path}", ["a+b"])], {"mine": topic})
    with pytest.raises(UsageError) as error:
        Settings.of([("mine.nothing", ["1"])], {"mine": topic})
    assert "batch_size, bins, classes, looks, margin, optimizer.adaptive_lr" in str(error.value)


def test_a_topic_travels_with_its_functions_and_what_was_seen_of_its_data():
    topic = classifier(models={"line": pieces.line}, data=pieces.pictures)
    topic.prepare()
    task = Task(topic, CELL, BUDGET, run=None)
    _, there = pickle.loads(packed(print, task))
    assert there.topic == topic and hash(there.topic) == hash(topic)
    assert "_facts" in vars(there.topic)
    assert there.topic.models["line"].value is not pieces.line  # by value, as of a conftest
    assert len(packed(print, task)) < 20_000
    assert cloudpickle.list_registry_pickle_by_value() == set()


def unseeded():
    x, y = pieces.blobs()
    return x + np.random.default_rng().normal(size=x.shape), y


def test_data_that_differs_between_processes_is_refused(tmp_path):
    topic = classifier(data=unseeded)
    topic.prepare()
    (found,) = run(tmp_path, Task(topic, CELL, SHORT, tmp_path))
    assert found.status == "failed"
    assert "data differs from what another process was given" in found.reason
