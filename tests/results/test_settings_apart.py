"""Cells of other settings are other configurations, wherever results are told."""

import json

import pandas as pd
import pytest

from harness.cell import Budget, Cell
from harness.results import compare, frames, tables
from harness.results.compare.statistic import configurations
from harness.results.dashboard import answers, figures, sweeps, told
from harness.results.record import Record
from harness.results.store import Store

VALUES = {"0.01": 0.5, "0.1": 0.8, "none": 0.2}


def record(lr, seed=0, model="mlp", fixed=None):
    number = lr if lr == "none" else float(lr)
    return Record(
        Cell("mine", model, "ce", "cosine", seed=seed, settings=(("lr", lr),)),
        f"f{lr}",
        "done",
        budget=Budget(10, 8),
        set_to={"lr": number} | (fixed or {}),
        metrics={"accuracy": VALUES[lr] + 0.01 * seed},
        baseline={"accuracy": 0.1},
        directions={"accuracy": "max"},
        cost={"train_s": 1.0, "wall_s": 2.0},
    )


def run(values=("0.01", "0.1"), **more):
    return tables.cells(record(lr, seed, **more).to_dict() for lr in values for seed in (0, 1))


@pytest.fixture
def written(tmp_path):
    store = Store(tmp_path)
    records = [record(lr, seed) for lr in VALUES for seed in (0, 1)]
    for one in records:
        store.write(one)
    return tmp_path, tables.write([one.to_dict() for one in records], tmp_path)


def test_a_record_reads_back_with_its_settings():
    one = record("0.1", fixed={"wide": True, "sizes": "64+64"})
    assert Record.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_tables_have_what_was_set_and_read_the_same_from_every_file(written):
    folder, made = written
    assert list(made.cells["settings"].unique()) == ["lr=0.01", "lr=0.1", "lr=none"]
    assert list(made.cells["set.lr"].unique()) == ["0.01", "0.1", "none"]
    for gone in ("cells", "cells.parquet", ""):
        found, unread = frames.read(folder)
        assert not unread and list(found["settings"]) == list(made.cells["settings"])
        if gone:
            (folder / gone).rename(folder / f"no {gone}")


def test_each_value_is_a_recipe_with_seeds_of_its_own(written):
    own = written[1].summary
    assert list(own["settings"]) == ["lr=0.01", "lr=0.1", "lr=none"] and set(own["n"]) == {2}
    assert list(own["standing"]) == ["worse", "best", "worse"]


def test_a_swept_setting_is_an_axis_of_the_effects(written):
    own = written[1].effects
    levels = own[(own["axis"] == "set.lr") & (own["kind"] == "level")]
    assert dict(zip(levels["level"], levels["value"].round(6), strict=True)) == {
        "0.01": 0.0,
        "0.1": 0.3,
        "none": -0.3,
    }
    assert told.effects(own, {"mine": "accuracy"})["axes"][4] == "set.lr"


def test_what_is_fixed_for_all_is_no_axis():
    assert "set.wide" not in set(tables.effects(run(fixed={"wide": True}))["axis"])


def test_models_are_compared_at_the_same_settings():
    both = pd.concat([run(), run(("0.1",), model="cnn")], ignore_index=True)
    found = tables.improvement(both)
    assert list(found["settings"]) == ["lr=0.1"]


def test_runs_of_other_settings_are_not_comparable():
    with pytest.raises(compare.NotComparable, match="set.wide of mine/.* is 8.0 .* and 16.0 in"):
        compare.compare(run(fixed={"wide": 8}), run(fixed={"wide": 16}))
    with pytest.raises(compare.NotComparable, match="set.wide of .* is not set in .* and 16.0 in"):
        compare.compare(run(), run(fixed={"wide": 16}))
    assert compare.compare(run(), run(fixed={"looks": 3})).verdict == "same"
    assert (
        list(configurations(run())) == ["mlp-ce-cosine-lr=0.01"] * 2 + ["mlp-ce-cosine-lr=0.1"] * 2
    )


def test_the_page_draws_the_metric_against_what_was_swept(written):
    cells, own = (
        written[1].cells,
        answers.configurations(written[1].summary, "mine", "accuracy", "max"),
    )
    (choice,) = sweeps.curves(own, "accuracy", cells)["choices"]
    (line,) = choice["data"]
    assert choice["label"] == "lr" and line["x"] == ["0.01", "0.1", "none"]
    assert line["y"] == [0.505, 0.805, 0.205]
    numbers = sweeps.curves(own[own["settings"] != "lr=none"], "accuracy", cells)["choices"][0]
    assert numbers["data"][0]["x"] == [0.01, 0.1]
    assert answers.recipe(own.iloc[0]) == "mlp with ce, cosine, lr=0.1"
    assert not sweeps.curves(own.assign(settings=""), "accuracy", cells)["choices"]
    heat = figures.heat(own, "accuracy", "max")["choices"][0]["data"][0]
    assert "single lr=0.1: " in heat["customdata"][0][0]


def test_the_race_that_the_page_offers_has_the_same_settings():
    cells = answers.ranked(run(fixed={"sizes": "64+64"}))
    command = told.race(cells, ["mine"])["command"]
    axes = "--model mlp --loss ce --schedule cosine"
    assert command.endswith(f"-k mine {axes} --set mine.lr=0.01,0.1 --set mine.sizes=64+64")
