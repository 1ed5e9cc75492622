"""Resharding and scaling of a toy's parallel configurations."""

from dataclasses import replace

import pandas as pd
from toy import Toy

from harness.axes import parallel
from harness.cell import Budget, Cell
from harness.runs import Run
from harness.studies import resharding, scaling
from harness.studies.parity import parity
from harness.studies.study import keep
from harness.trial.task import Task

BUDGET = Budget(steps=20, batch_size=8, timeout_s=120)
CELL = Cell("toy", "line", "mse", "cosine")


def test_a_checkpoint_goes_on_under_every_other_configuration(executor, tmp_path):
    task = Task(Toy(), replace(CELL, schedule="adam"), BUDGET, tmp_path)
    rows = resharding.grid(executor, task)
    assert len(rows) == len(resharding.LAYOUTS) ** 2
    for row in rows:
        assert row["state_equal"] and row["data_equal"] and row["difference"] < 1e-5, row


def test_plateau_and_averaged_ranks_reshard_too(executor, tmp_path):
    task = Task(Toy(), replace(CELL, schedule="plateau"), BUDGET, tmp_path)
    places = [("single", 1), ("local_sgd", 2), ("ddp_powersgd", 2), ("fsdp_zero2", 2)]
    rows = resharding.grid(executor, task, places)
    same = [row for row in rows if row["saved_under"] == row["loaded_under"]]
    assert all(row["state_equal"] and row["difference"] == 0 for row in same)
    assert all(row["data_equal"] for row in rows)


def test_what_travels_is_what_the_configuration_says(executor, tmp_path):
    task = Task(Toy(), replace(CELL, model="dropout"), BUDGET, tmp_path)
    rows = scaling.table(executor, task, (2,))
    sent = {row["parallel"]: row["sent_mb"] * 2**20 for row in rows}
    state = {row["parallel"]: row["state_mb"] for row in rows}
    size = 4 * (3 * 8 + 8 + 8 + 1)
    assert sent["single"] == 0
    # an all-reduce over two ranks sends what it holds; on a busy machine the profiler may stop
    # before it hears of the last step's message, one of four
    assert 0.7 * size < sent["ddp"] <= size
    assert 0.7 * size / 2 < sent["ddp_bf16"] <= size / 2
    assert sent["local_sgd"] == size / parallel.AVERAGE_EVERY
    assert state["fsdp"] < state["zero1"] < state["ddp"] == state["single"]


class Dropped(Toy):
    name = "dropped"
    models = ("dropout",)


class Estimators(Toy):
    models = fits = ("tree",)


def test_parity_has_a_row_and_a_reason_per_configuration_none_for_estimators(tmp_path):
    topics = {"toy": Toy(), "dropped": Dropped(), "estimators": Estimators()}
    one = Run(tmp_path, topics, "smoke", report=lambda line: None)
    toy, dropped = parity(one, "toy"), parity(one, "dropped")
    assert list(toy["parallel"]) == [n for n in parallel.NAMES if parallel.is_distributed(n)]
    assert toy["equal"][toy["exact"]].all() and (toy["reason"][toy["exact"]] == "").all()
    assert (toy["reason"][~toy["exact"]] != "").all()
    assert dropped["reason"].str.contains("Dropout in model: random numbers per rank").all()
    assert not dropped["exact"].any()
    none = parity(one, "estimators")
    assert none.empty and list(none.columns) == list(toy.columns)


def test_a_damaged_table_is_moved_aside_and_other_models_rows_stay(tmp_path):
    said = []
    run = Run(tmp_path, {"toy": Toy()}, "smoke", report=said.append)
    row = {"topic": "toy", "ranks": 2, "parallel": "ddp", "difference": 0.0, "exact": True}
    row |= {"equal": True, "reason": "", "steps": 2}
    path = tmp_path / "parity.csv"
    path.write_bytes(b"\x00 no table")
    for model in ("line", "dropout", "line"):
        task = Task(Toy(), replace(CELL, model=model), BUDGET, tmp_path)
        keep(run, "parity", task, [row | {"model": model}])
    assert sorted(pd.read_csv(path)["model"]) == ["dropout", "line"]
    (aside,) = tmp_path.glob("parity.*.damaged")
    assert aside.read_bytes() == b"\x00 no table"
    assert len(said) == 1 and str(aside) in said[0]
