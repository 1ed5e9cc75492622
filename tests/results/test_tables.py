"""Tables: the frames' shape, and their statistics against SciPy, NumPy and work by hand."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.results import columns, tables
from harness.results.effects import effects
from harness.results.summary import summary


def record(
    topic="vgg", model="vgg11", loss="ce", schedule="cosine", parallel="single", seed=0, **k
):
    status = k.pop("status", "done")
    base = {
        "id": f"{topic}/{model}-{loss}-{schedule}-{parallel}-s{seed}",
        "topic": topic,
        "model": model,
        "loss": loss,
        "schedule": schedule,
        "parallel": parallel,
        "seed": seed,
        "world_size": 1,
        "profile": "quick",
        "dataset": "digits",
        "fingerprint": "0" * 12,
        "status": status,
        "reason": "",
        "traceback": "",
        "command": f"pytest experiments/test_{topic}.py --rerun",
        "started": "2026-11-24T09:00:00",
        **dict.fromkeys(("metrics", "baseline", "directions", "curve", "cost"), {}),
        **dict.fromkeys(("checkpoint", "parity", "environment"), {}),
        "budget": None,
    }
    if status == "done":
        base |= {
            "budget": {"steps": 10, "batch_size": 8, "samples": None},
            "metrics": {"accuracy": 0.9, "ece": 0.1},
            "baseline": {"accuracy": 0.1, "ece": 0.3},
            "directions": {"accuracy": "max", "ece": "min"},
            "curve": {"step": [1.0, 2.0], "loss": [2.0, 1.0], "lr": [0.1, 0.05]},
            "cost": {"wall_s": 2.0, "train_s": 1.5, "step_ms": 3.0, "samples_per_s": 400.0},
            "checkpoint": {"state_equal": True, "resume_equal": False, "bytes": 100},
            "environment": {"device": "cpu", "threads": 1},
        }
    return base | k


def skipped(**k):
    return record(status="skipped", reason="means nothing here", **k)


def test_cells_flatten_groups_and_keep_types():
    frame = tables.cells(
        [record(), skipped(seed=1), record(topic="regression", metrics={"mse": 3})]
    )
    assert list(frame["status"]) == ["done", "skipped", "done"]
    assert frame.loc[0, "metric.accuracy"] == 0.9
    assert frame.loc[0, "direction.ece"] == "min"
    assert frame["checkpoint.state_equal"].dtype == "boolean"
    assert frame["checkpoint.state_equal"].isna().tolist() == [False, True, False]
    assert frame.loc[1, "primary"] == "accuracy", "a skipped cell takes its topic's primary metric"
    assert math.isnan(frame.loc[2, "metric.accuracy"])
    assert frame.loc[0, "environment.threads"] == 1


def test_column_order_does_not_depend_on_record_order():
    rows = [record(), record(topic="regression", metrics={"mse": 3.0}), skipped(seed=4)]
    orders = {tuple(tables.cells(p).columns) for p in itertools.permutations(rows)}
    assert len(orders) == 1


def test_energy_that_is_not_known_is_empty_in_the_csv(tmp_path):
    known = record(seed=1, cost={"train_s": 1.5, "energy_j": 52.5})
    tables.write([record(), known], tmp_path)
    written = pd.read_csv(tmp_path / "cells.csv", dtype=str, keep_default_na=False)
    assert written["cost.energy_j"].tolist() == ["", "52.5"]


def test_a_further_group_keeps_its_name():
    frame = tables.cells([record(fid={"extractor": "digits-v1", "samples": 512})])
    assert frame.loc[0, "fid.extractor"] == "digits-v1"
    assert frame.loc[0, "fid.samples"] == 512


@pytest.mark.parametrize("rows", [[], [skipped(), skipped(seed=1)]], ids=["empty", "all skipped"])
def test_nothing_measured(rows, tmp_path):
    result = tables.write(rows, tmp_path)
    assert len(result.cells) == len(rows) and "status" in result.cells
    for frame, names in ((result.summary, columns.SUMMARY), (result.effects, None)):
        assert frame.empty and (names is None or list(frame) == list(names))
    assert len(pd.read_csv(tmp_path / "cells.csv")) == len(rows)
    assert len(pd.read_parquet(tmp_path / "curves.parquet")) == 0


def test_metrics_that_are_no_numbers_are_nan():
    bad = {"accuracy": math.nan, "ece": None, "other": "n/a", "far": math.inf}
    frame = tables.cells([record(metrics=bad), record(seed=1)])
    row = summary(frame).set_index("metric").loc["accuracy"]
    assert (row["n"], row["trained"], row["mean"]) == (1, 1, 0.9)
    assert summary(frame).set_index("metric").loc["far", "n"] == 0


def test_curves_are_long_and_padded():
    short = record(seed=1, curve={"step": [1, 2, 3], "loss": [1.0, None]})
    frame = tables.curves([record(), skipped(), short])
    assert list(frame) == ["id", "step", "loss", "lr"] and len(frame) == 5
    assert frame["lr"].isna().tolist() == [False, False, True, True, True]
    assert frame["loss"].isna().tolist() == [False, False, False, True, True]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
@settings(deadline=None, max_examples=60)
def test_summary_agrees_with_scipy(values):
    rows = [record(seed=s, metrics={"accuracy": v}) for s, v in enumerate(values)]
    row = summary(tables.cells(rows)).iloc[0]
    tolerance = 1e-9 * (1 + max(map(abs, values)))
    assert row["n"] == len(values)
    assert row["mean"] == pytest.approx(np.mean(values), abs=tolerance)
    assert row["iqm"] == pytest.approx(scipy.stats.trim_mean(values, 0.25), abs=tolerance)
    if len(values) == 1:
        assert math.isnan(row["sd"]) and math.isnan(row["ci_low"])
    else:
        assert row["sd"] == pytest.approx(np.std(values, ddof=1), abs=tolerance)
        error = scipy.stats.sem(values)
        ends = scipy.stats.t.interval(0.95, len(values) - 1, row["mean"], max(error, 1e-300))
        assert [row["ci_low"], row["ci_high"]] == pytest.approx(ends, abs=20 * tolerance)


def test_diverged_seeds_count_against():
    lost = {"status": "diverged", "baseline": {"accuracy": 0.1}}
    rows = [record(), *(record(seed=seed, **lost) for seed in range(1, 5))]
    rows += [record(loss="mae", seed=seed, metrics={"accuracy": 0.7}) for seed in range(5)]
    frame = summary(tables.cells(rows)).query("metric == 'accuracy'").set_index("loss")
    assert frame.loc["ce", ["n", "trained", "n_diverged"]].tolist() == [5, 1, 4]
    assert frame.loc["ce", "mean"] == pytest.approx((0.9 + 4 * 0.1) / 5)
    assert frame["standing"].to_dict() == {"ce": "worse", "mae": "best"}


def test_test_samples_widen_the_interval():
    rows = [record(seed=s, metrics={"accuracy": 0.9 + s / 100}) for s in range(3)]
    (narrow,) = summary(tables.cells(rows))["ci_high"].iloc[:1]
    told = [row | {"evaluation": {"accuracy_se": 0.05}} for row in rows]
    row = summary(tables.cells(told)).iloc[0]
    seeds = narrow - row["mean"]
    assert row["ci_high"] - row["mean"] == pytest.approx(np.hypot(seeds, 1.96 * 0.05), rel=1e-3)


def test_validation_chooses_and_test_data_report():
    rows = [
        record(loss=loss, seed=seed, metrics={"accuracy": test}, validation={"accuracy": held})
        for loss, test, held in (("ce", 0.9, 0.5), ("mae", 0.8, 0.6))
        for seed in range(3)
    ]
    for row in rows:
        row["validation"]["accuracy"] += row["seed"] / 1000
    frame = summary(tables.cells(rows)).set_index("loss")
    assert frame["standing"].to_dict() == {"ce": "worse", "mae": "best"}
    assert frame["mean"].to_dict() == pytest.approx({"ce": 0.9, "mae": 0.8})
    assert set(frame["chosen_by"]) == {"validation"}


def test_exact_configurations_are_no_recipes():
    exact = {"difference": 1e-7, "exact": True, "equal": True, "reason": ""}
    rows = [record(), record(parallel="ddp", parity=exact, metrics={"accuracy": 0.95})]
    frame = summary(tables.cells(rows)).query("metric == 'accuracy'")
    assert frame[["parallel", "n", "mean"]].to_numpy().tolist() == [["single", 1, 0.9]]


def test_numbers_near_the_largest_overflow_nowhere():
    rows = [
        record(loss=loss, schedule=name, seed=seed, metrics={"accuracy": sign * 1.7e308})
        for loss, sign in (("ce", 1), ("mse", -1))
        for name in ("a", "b")
        for seed in range(2)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cells = tables.cells(rows)
        assert summary(cells)["mean"].abs().max() == pytest.approx(1.7e308)
        found = effects(cells)
    level = found[(found.kind == "level") & (found.level == "ce")].iloc[0]
    assert level["value"] == pytest.approx(1.7e308)


def test_summary_does_not_depend_on_record_order():
    rows = [record(seed=s, metrics={"accuracy": 0.5 + s**2 / 100}) for s in range(5)]
    one, two = (summary(tables.cells(part)) for part in (rows, rows[::-1]))
    pd.testing.assert_frame_equal(one, two)


def test_quality_takes_each_topics_primary_metric():
    other = record(topic="regression", metrics={"mse": 3.0}, directions={"mse": "min"})
    assert tables.quality(tables.cells([record(), other])).tolist() == [0.9, 3.0]


def test_write_leaves_eight_files_and_no_temporary(tmp_path):
    rows = [record(seed=s, loss=n) for s in range(2) for n in ("ce", "mse")]
    result = tables.write(json.loads(json.dumps(rows)), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("cells.csv", "cells.parquet", "curves.parquet", "effects.csv"),
        *("held_out.parquet", "improvement.csv", "summary.csv", "transfer.csv"),
    ]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "cells.parquet"), result.cells)
    assert len(pd.read_csv(tmp_path / "summary.csv")) == 4


def test_no_torch_is_imported():
    code = "import sys, harness.results.tables; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("begin", "=+-@\t\n")
def test_a_text_that_begins_like_a_formula_is_text_in_csv(tmp_path, begin):
    formula = f"{begin}cmd|' /C calc'!A0"
    rows = [
        record(reason=formula, metrics={"accuracy": -0.5}, environment={"cpu": formula}),
        record(seed=1, reason="1 - 1 = 0", environment={"cpu": None}),
    ]
    result = tables.write(rows, tmp_path)
    back = pd.read_csv(tmp_path / "cells.csv")
    assert back["reason"].tolist() == ["'" + formula, "1 - 1 = 0"]
    assert back["environment.cpu"].tolist()[0] == "'" + formula
    assert back["environment.cpu"].isna().tolist() == [False, True]
    assert back.loc[0, "metric.accuracy"] == -0.5
    whole = pd.read_parquet(tmp_path / "cells.parquet")
    for frame in (result.cells, whole):
        assert frame.loc[0, "reason"] == frame.loc[0, "environment.cpu"] == formula


def test_notes_on_data_are_lines_of_one_column():
    frame = tables.cells([record(data_notes=["a", "b"]), record(data_notes=[]), record()])
    assert frame["data_notes"].tolist() == ["a\nb", "", ""]
