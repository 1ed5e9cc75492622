"""Folds: which training samples validate a cell, by its seed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.cell import Cell
from harness.topics import datasets, folds
from harness.topics.registry import registered_topics

TOPICS = registered_topics()


@given(count=st.integers(2, 60_000), seed=st.integers(0, 10**6))
def test_a_fold_divides_the_samples(count, seed):
    train, validation = folds.fold(count, seed)
    assert torch.cat([train, validation]).sort().values.equal(torch.arange(count))
    assert len(validation) == min(max(1, count // 8), 5_000)


@given(count=st.integers(8, 2_000))
def test_eight_seeds_in_a_row_validate_on_almost_all(count):
    seen = torch.cat([folds.fold(count, seed).validation for seed in range(8)])
    assert len(seen.unique()) == len(seen) == count // 8 * 8


@pytest.mark.parametrize("name", ["vgg", "regression", "multitask", "vae", "pixelcnn"])
def test_no_training_sees_what_validates_it(name):
    """The batches of a seed never hold a sample that the fold of that seed sets apart."""
    topic = TOPICS[name]
    loss, schedule = topic.recipe
    data = topic.images if topic.generates else topic._data
    for seed in (0, 3):
        cell = Cell(name, topic.models[0], loss, schedule, seed=seed)
        networks = topic.networks(cell)
        generator = torch.Generator().manual_seed(seed)
        batches = topic.batches(
            cell, topic.budgets["quick"], networks, generator, torch.device("cpu")
        )
        apart = data.fold(seed).validation
        if name == "multitask":
            drawn_from = batches.x_NCHW
            assert drawn_from.equal(data.train_x[data.fold(seed).train])
            continue
        source = batches.batches if hasattr(batches, "batches") else batches
        seen = source.rows
        if name not in ("vgg", "pixelcnn"):  # whose samples are those of the rows only
            assert not torch.isin(seen, apart).any()
            assert len(seen) + len(apart) == len(data.train_y)
        else:
            assert len(seen) == len(data.train_y) - len(apart)


@pytest.mark.parametrize("name", sorted(TOPICS))
def test_each_topic_validates_by_the_metrics_that_it_reports(name):
    topic = TOPICS[name]
    loss, schedule = topic.recipe
    cell = Cell(name, topic.models[0], loss, schedule)
    torch.manual_seed(0)
    networks = {k: v.eval() for k, v in topic.networks(cell).items()}
    chosen_by, reported = topic.validate(networks, cell), topic.evaluate(networks, cell)
    named = [metric for metric in topic.directions if metric in reported]
    assert named and all(metric in chosen_by for metric in named)
    assert any(chosen_by[metric] != reported[metric] for metric in named)


def untrained(topic, model, seed):
    loss, schedule = topic.recipe
    cell = Cell(topic.name, model, loss, schedule, seed=seed)
    torch.manual_seed(seed)
    return cell, {name: network.eval() for name, network in topic.networks(cell).items()}


@pytest.mark.parametrize(("name", "model"), [("vgg", "vgg11"), ("regression", "linear")])
@pytest.mark.parametrize("seed", [0, 3])
def test_what_validates_is_the_fold_of_the_seed(name, model, seed):
    topic = TOPICS[name]
    cell, networks = untrained(topic, model, seed)
    seen = []
    networks["model"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    topic.validate(networks, cell)
    expected = topic._data.train_x[topic._data.fold(seed).validation]
    expected = datasets.fit_images(expected, 32) if name == "vgg" else expected
    assert torch.cat(seen).equal(expected)


@pytest.mark.parametrize("name", ["vae", "pixelcnn"])
def test_a_likelihood_validates_on_the_fold_and_an_fid_on_other_images(name, monkeypatch):
    topic, asked = TOPICS[name], {}
    cell, networks = untrained(topic, topic.models[0], 3)
    for method, at in (("likelihood", 2), ("_distances", 2)):
        monkeypatch.setattr(
            type(topic),
            method,
            lambda self, *told, method=method, at=at: asked.update({method: told[at]}) or {},
        )
    topic.validate(networks, cell)
    images = topic.images
    assert asked["likelihood"].equal(images.train_x[images.fold(3).validation])
    assert asked["_distances"].equal(images.test_x[: topic.fid_samples])


def test_scenes_that_validate_are_of_the_fold(monkeypatch):
    topic, used = TOPICS["multitask"], []
    cell, networks = untrained(topic, "equal", 3)
    compose = type(topic)._compose
    monkeypatch.setattr(
        type(topic),
        "_compose",
        lambda self, x, y, most: used.append((x, y)) or compose(self, x, y, most),
    )
    topic.validate(networks, cell)
    rows = topic._data.fold(3).validation
    ((x_VCHW, y_V),) = used
    assert x_VCHW.equal(topic._data.train_x[rows]) and y_V.equal(topic._data.train_y[rows])
