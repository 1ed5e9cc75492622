"""Cells of other precisions are other recipes, told beside fp32's of the same axes."""

import json

import pandas as pd
import pytest

from harness.cell import Budget, Cell, Status
from harness.results import frames, tables
from harness.results.compare.statistic import configurations
from harness.results.dashboard import answers, told
from harness.results.dashboard.page import render
from harness.results.record import Record
from harness.results.store import Store
from harness.results.summary import summary

ACCURACY = {"fp32": 0.8, "bf16": 0.7}


def record(precision, seed=0, parity=None):
    return Record(
        Cell("mine", "mlp", "ce", "cosine", seed=seed, precision=precision),
        f"f{precision}",
        Status.DONE,
        budget=Budget(10, 8),
        metrics={"accuracy": ACCURACY[precision] + 0.01 * seed},
        baseline={"accuracy": 0.1},
        directions={"accuracy": "max"},
        cost={"train_s": 1.0, "samples_per_s": 100.0 if precision == "fp32" else 150.0},
        checkpoint={n: True for n in ("state_equal", "resume_equal", "metrics_equal")},
        parity=parity or {},
    )


def run():
    near = {"difference": 0.02, "steps": 2, "exact": True, "equal": True, "reason": ""}
    return [
        record(precision, seed, near if precision == "bf16" else None)
        for precision in ACCURACY
        for seed in (0, 1)
    ]


@pytest.fixture
def written(tmp_path):
    store = Store(tmp_path)
    for one in run():
        store.write(one)
    return tmp_path, tables.write([one.to_dict() for one in run()], tmp_path)


def test_a_record_has_its_precision_and_one_of_before_is_of_fp32():
    one = record("bf16")
    assert Record.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    earlier = record("fp32").to_dict()
    del earlier["precision"]
    assert Record.from_dict(earlier) == record("fp32")
    assert list(tables.cells([earlier])["precision"]) == ["fp32"]


def test_it_reads_the_same_from_every_file(written):
    folder, made = written
    for gone in ("cells", "cells.parquet", ""):
        found, unread = frames.read(folder)
        assert not unread and set(found["id"]) == set(made.cells["id"])
        coarse = found["id"].str.contains("bf16")
        assert list(found["precision"]) == list(coarse.map({True: "bf16", False: "fp32"}))
        if gone:
            (folder / gone).rename(folder / f"no {gone}")


def test_it_is_a_recipe_and_an_axis_and_its_parity_is_checked(written):
    _, made = written
    assert list(made.summary["precision"]) == ["bf16", "fp32"] and set(made.summary["n"]) == {2}
    assert list(made.summary["standing"]) == ["worse", "best"]
    levels = made.effects[(made.effects["axis"] == "precision") & (made.effects["kind"] == "level")]
    assert dict(zip(levels["level"], levels["value"].round(6), strict=True)) == {
        "bf16": -0.05,
        "fp32": 0.05,
    }
    assert "precision" in told.effects(made.effects, {"mine": "accuracy"})["axes"]
    assert sorted(set(configurations(made.cells))) == ["mlp-ce-cosine", "mlp-ce-cosine-bf16"]
    record("fp32").check()
    with pytest.raises(AssertionError, match="parity was not measured"):
        record("bf16").check()


def test_the_page_has_it_beside_fp32(written):
    _, made = written
    ranked = answers.ranked(made.cells)
    beside = answers.pairs(ranked, "precision", "fp32")
    assert list(beside["precision"]) == ["bf16", "bf16"]
    assert list(beside["samples_per_s"] / beside["samples_per_s_plain"]) == [1.5, 1.5]
    named = [answers.recipe(row) for row in made.summary.to_dict("records")]
    assert named == ["mlp with ce, cosine, bf16", "mlp with ce, cosine"]
    text = render(made, "run")
    assert "Precisions beside fp32" in text and ">bf16<" in text
    plain = tables.cells(record("fp32", seed).to_dict() for seed in (0, 1))
    only = made._replace(
        cells=plain, summary=summary(plain), effects=pd.DataFrame(made.effects[:0])
    )
    assert "Precisions beside fp32" not in render(only, "run")


def test_the_race_that_tells_recipes_apart_has_their_precisions(written):
    cells = written[1].cells.assign(**{"cost.wall_s": 6.0})
    found = told.race(cells, ["mine"])
    axes = "--model mlp --loss ce --schedule cosine"
    assert found["command"].endswith(f" -k mine {axes} --precision bf16,fp32")
    assert found["recipes"] == 2
    plain = cells[cells["precision"] == "fp32"]
    plain = told.race(pd.concat([plain, plain.assign(loss="mse")]), ["mine"])
    assert "--precision" not in plain["command"]


def test_costs_of_cells_that_trained_together_are_not_held_against_one_that_trained_alone(written):
    cells = written[1].cells
    together = cells.assign(population=cells["precision"].map({"fp32": 8, "bf16": 1}))
    beside = answers.pairs(answers.ranked(together), "precision", "fp32")
    assert beside["samples_per_s_plain"].isna().all() and beside["quality_plain"].notna().all()
