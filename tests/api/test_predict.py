"""Predictions of one's own topic, in the words and units of its data."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sklearn.metrics import accuracy_score, r2_score
from torch import nn
from toy import Toy

import harness
from harness import Cell, Supervised, UsageError, load
from harness.cli import main

WORDS = np.array(["low", "middle", "high"])


def samples(count, seed):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(count, 4)).astype("float32")
    return x, x @ np.array([1.0, -2.0, 0.5, 0.0]) + generator.normal(size=count) * 0.3


def numbers(seed):
    x, y = samples(200, seed)
    return x, 100 + 7 * y


def words(seed):
    x, y = samples(200, seed)
    return x, WORDS[np.digitize(y, [-1, 1])]


def renamed(seed):
    x, y = words(seed)
    return x, np.char.upper(y)


def net(outputs):
    return nn.Linear(4, outputs)


def topic(data, first=0):
    task = "regression" if data is numbers else "classification"
    told = {"data": data(first), "test": data(9), "batch_size": 32}
    return Supervised("mine", models={"net": net}, task=task, steps=60, **told)


@pytest.fixture(scope="module", params=[numbers, words])
def trained(request, tmp_path_factory):
    """The data, and a run of its topic under two losses and two configurations."""
    data, folder = request.param, tmp_path_factory.mktemp("run")
    found = harness.run(
        topic(data), "smoke", folder=folder, losses=["mse", "ce"], parallel=["single", "fsdp"]
    )
    return data, found


def test_what_is_predicted_is_what_was_measured(trained):
    data, found = trained
    x, y = data(9)
    for record in found.records.values():
        for given in (x, x.astype("float64"), torch.from_numpy(x)):
            predicted = found.predict(record.cell.id, given)
            if data is numbers:
                assert r2_score(y, predicted) == pytest.approx(record.metrics["r2"], abs=1e-5)
            else:
                assert set(predicted) <= set(WORDS)
                assert accuracy_score(y, predicted) == pytest.approx(record.metrics["accuracy"])


def test_an_exported_network_says_what_its_outputs_are(trained, tmp_path):
    data, found = trained
    cell = Cell("mine", "net", "mse", "cosine")
    out = tmp_path / "net.safetensors"
    assert (
        main(
            ["export", str(found.folder / "checkpoints" / cell.id / "final.pt"), "--out", str(out)]
        )
        == 0
    )
    with safe_open(out, "pt") as file:
        targets = json.loads(file.metadata()["targets"])
        weight, bias = (file.get_tensor(name).double().numpy() for name in ("weight", "bias"))
    x, _ = data(9)
    outputs = x.astype("float64") @ weight.T + bias
    if data is words:
        assert targets == {"labels": sorted(WORDS)}
        by_hand = np.array(targets["labels"])[outputs.argmax(1)]
        assert (by_hand == found.predict(cell, x)).all()
    else:
        by_hand = outputs[:, 0] * targets["sd"] + targets["mean"]
        assert by_hand == pytest.approx(found.predict(cell, x), rel=1e-5)


def test_other_targets_than_those_of_the_training_are_refused(trained):
    data, found = trained
    cell = Cell("mine", "net", "mse", "cosine")
    x, _ = data(9)
    same = load(found.folder, topics=topic(data))
    assert (same.predict(cell, x) == found.predict(cell, x)).all()
    other = load(found.folder, topics=topic(numbers if data is numbers else renamed, 1))
    with pytest.raises(UsageError, match=r"trained on targets of \{.*\}, and its data has \{"):
        other.predict(cell, x)


def test_odd_samples_and_other_topics_are_refused_in_one_line(trained, tmp_path):
    data, found = trained
    x, _ = data(9)
    x[3] = np.nan
    with pytest.raises(UsageError, match="topic 'mine': samples to predict: x has NaN or inf"):
        found.predict("mine/net-mse-cosine-single-s0", x)
    with pytest.raises(UsageError, match=r"have shape \(4,\): \(4,\) each is needed, along the fi"):
        found.predict("mine/net-mse-cosine-single-s0", x[0])
    cell = Cell("toy", "line", "mse", "cosine")
    other = harness.run(Toy(), "smoke", folder=tmp_path, select=[cell])
    with pytest.raises(UsageError, match="topic toy gives no predictions: take network"):
        other.predict(cell, x)
