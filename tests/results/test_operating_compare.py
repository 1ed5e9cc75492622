"""Faults are planted in trainings as they say, and what compare sees of them is counted."""

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from harness.axes import schedules
from harness.cell import Cell
from harness.results import compare
from harness.results.compare.rows import Row
from harness.results.verdict import Verdict
from harness.topics.regression import Regression
from harness.topics.vgg import VGG
from harness.training.loop import Training

SMALL = {"models": ("linear",), "losses": ("mse", "huber"), "seeds": 16, "together": 8}


@pytest.fixture(scope="module")
def scripts():
    """The modules that train and that count."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "experiments"))
        yield [importlib.import_module(name) for name in ("planted_faults", "operating_compare")]


@pytest.fixture(scope="module")
def small(scripts, tmp_path_factory):
    """A pool of a few short trainings, and the file that has them."""
    pool = scripts[0].POOLS["regression"]
    pool = replace(pool, budget=replace(pool.budget, steps=20), **SMALL)
    path = tmp_path_factory.mktemp("operating") / "compare.csv"
    scripts[0].train(path, pool)
    return pool, path


def training(topic, loss, schedule="constant", steps=10):
    budget = replace(topic.budgets["smoke"], steps=steps)
    return Training(topic, Cell(topic.name, topic.models[0], loss, schedule), budget)


def losses(topic, loss):
    """The losses of the first two steps: the second depends on the first's gradient."""
    made = training(topic, loss)
    made.run(2)
    return torch.stack(made.losses).tolist()


@pytest.mark.parametrize("topic", [Regression(), VGG(width=1)])
def test_a_twentieth_of_the_targets_is_wrong(scripts, topic):
    right = training(topic, "mse").batches.tensors
    with scripts[0].planted(topic, "targets"):
        wrong, again = (training(topic, "mse").batches.tensors for _ in range(2))
    assert (right["y"] != wrong["y"]).double().mean().item() == pytest.approx(0.05, abs=0.005)
    assert torch.equal(wrong["y"], again["y"]) and torch.equal(right["x"], wrong["x"])
    assert set(wrong["y"].tolist()) <= set(right["y"].tolist())
    assert torch.equal(training(topic, "mse").batches.tensors["y"], right["y"])


def test_a_loss_is_wrong(scripts):
    right = losses(Regression(), "huber"), losses(VGG(width=1), "ce")
    with scripts[0].planted(Regression(), "loss"), scripts[0].planted(VGG(), "loss"):
        halved, smoothed = losses(Regression(), "huber"), losses(VGG(width=1), "ce")
    assert halved[0] == right[0][0] / 2 and halved[1] > right[0][1] / 2
    assert smoothed[0] == pytest.approx(right[1][0], rel=0.1) and smoothed[1] != right[1][1]


def test_cosine_ends_at_30_percent_and_constant_is_as_it_was(scripts):
    with scripts[0].planted(Regression(), "schedule"):
        made = [training(Regression(), "mse", name) for name in ("cosine", "constant")]
    for own in [*made, training(Regression(), "mse", "cosine")]:
        own.run(10)
    last = [own.optimizers["regressor"].param_groups[0]["lr"] for own in made]
    assert last[0] == pytest.approx(0.3 * made[0].rates[0]) and last[1] == made[1].rates[0]
    assert "wrong" not in schedules._BUILD["cosine"].__name__


def test_each_fault_is_trained_where_it_lies(small):
    frame = pd.read_csv(small[1])
    cells = {fault: set(own["id"]) for fault, own in frame.groupby("fault")}
    assert {fault: len(own) for fault, own in cells.items()} == {
        **{"none": 64, "rate": 64, "targets": 64},
        **{"loss": 32, "schedule": 32},
    }
    assert all("-huber-" in name for name in cells["loss"])
    assert all("-cosine-" in name for name in cells["schedule"])
    values = frame.pivot_table("value", ["id", "metric"], "fault")
    touched = values.loc[values.index.get_level_values("metric") == "mse"].dropna()
    for fault in ("rate", "targets", "loss", "schedule"):
        assert (touched[fault] != touched["none"]).all()


def test_training_goes_on_where_it_stopped(scripts, small, tmp_path):
    pool, path = small
    lines = path.read_text().splitlines(keepends=True)
    stopped = tmp_path / "compare.csv"
    stopped.write_text("".join(lines[: -3 * 16]))
    scripts[0].train(stopped, pool)
    assert stopped.read_text() == path.read_text()
    scripts[0].train(stopped, pool)
    assert stopped.read_text() == path.read_text()


def test_a_run_is_drawn_of_any_seeds_and_numbered_from_0(scripts, small):
    pool, path = small
    whole = scripts[1].runs(path, pool)
    assert {len(own) for own in whole.values()} == {64}
    plain, run = whole["none"], scripts[1].drawn(whole["none"], [7, 3], "x")
    assert sorted(run["seed"].unique()) == [0, 1] and len(run) == 8
    key = ["loss", "schedule"]
    there = plain[plain["seed"] == 3].set_index(key)["metric.mse"]
    assert there.equals(run[run["seed"] == 1].set_index(key)["metric.mse"])
    assert whole["metric"]["metric.mae"].equals(plain["metric.mae"] * 1.1)
    assert (
        whole["loss"]
        .loc[plain["loss"] == "mse", "metric.mse"]
        .equals(plain.loc[plain["loss"] == "mse", "metric.mse"])
    )


def test_runs_of_a_pair_share_parts_of_the_data_and_no_seed(scripts):
    seeds = list(range(40))
    found = scripts[1].pairs(seeds, 8, np.random.default_rng(0))
    assert len(found) == 16 and len({place for pair in found for place in pair}) == 32
    assert all(a % 8 == b % 8 for a, b in found)
    assert {a % 8 for a, _ in found[:8]} == set(range(8))
    assert len(scripts[1].pairs(seeds, 1, np.random.default_rng(0))) == 20


@pytest.mark.parametrize(
    ("rows", "name", "expected"),
    [
        ([("mae", "same", "")], "mae", (False, False)),
        ([("mae", "worse", "beyond chance: all together +1")], "mae", (True, True)),
        ([("mae", "worse", ""), ("mse", "worse", "")], "mae", (True, False)),
        ([("mse", "worse", "beyond chance: svr-huber-cosine +1")], "huber", (True, True)),
        ([("mse", "better", "beyond chance: svr-mae-cosine-r0.3 -1")], "cosine", (True, True)),
        (
            [("mse", "worse", "beyond chance: svr-huber-cosine +1, all together +0.1")],
            *("huber", (True, True)),
        ),
        (
            [("mse", "worse", "beyond chance: svr-huber-cosine +1, svr-mse-cosine +1")],
            *("huber", (True, False)),
        ),
        ([("mse", "worse", "beyond chance: all together +0.1")], "huber", (True, False)),
        ([("mse", "worse", "beyond chance: all together +0.1")], None, (True, False)),
    ],
)
def test_what_is_called_worse_has_the_fault_or_not(scripts, rows, name, expected):
    made = [Row("t", aspect, 0, 0, Verdict(v), note) for aspect, v, note in rows]
    assert scripts[1].seen(compare.Comparison(tuple(made)), name) == expected


def test_faults_are_counted(scripts, small, monkeypatch):
    pool, path = small
    monkeypatch.setitem(scripts[1].POOLS, "regression", pool)
    monkeypatch.setattr(scripts[1], "COUNTS", (1, 8, 10))
    lines = list(scripts[1].table(path, ["regression"], 2))
    cells = {line.split(" | ")[1]: line.strip("| ").split(" | ")[2:] for line in lines[2:]}
    assert list(cells) == [
        *("none", "none, other parts of the data", "learning rate halved"),
        *("5 % of training targets wrong", "mae judged 1.1 times too large"),
        *("huber wrong, no other loss", "cosine ends at 30 % of the rate", "one bit of one cell"),
    ]
    assert cells["none"] == ["0 %", "0 %", "-"]  # four recipes of one seed say nothing
    assert cells["mae judged 1.1 times too large"] == ["0 % (0 %)", "100 % (100 %)", "-"]
    assert "(" not in cells["learning rate halved"][1]
    assert cells["one bit of one cell"] == ["100 %"] * 3
