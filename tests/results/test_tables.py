"""Tables: the frames' shape, and their statistics against SciPy, NumPy and work by hand."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.results import columns, tables
from harness.results.effects import effects, kendall
from harness.results.summary import bootstrap, summary


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
    assert row["n"] == 1 and row["mean"] == 0.9 and math.isnan(row["ci_low"])
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
    row = summary(tables.cells(rows), replicates=200).iloc[0]
    tolerance = 1e-9 * (1 + max(map(abs, values)))
    assert row["n"] == len(values)
    assert row["mean"] == pytest.approx(np.mean(values), abs=tolerance)
    assert row["iqm"] == pytest.approx(scipy.stats.trim_mean(values, 0.25), abs=tolerance)
    if len(values) == 1:
        assert math.isnan(row["sd"]) and math.isnan(row["ci_low"])
    else:
        assert row["sd"] == pytest.approx(np.std(values, ddof=1), abs=tolerance)
        low, high = row["ci_low"], row["ci_high"]
        assert min(values) - tolerance <= low <= high <= max(values) + tolerance


def test_diverged_seeds_are_counted_and_in_no_mean():
    rows = [record(), record(seed=1, status="diverged"), record(loss="mae", status="diverged")]
    frame = summary(tables.cells(rows)).query("metric == 'accuracy'").set_index("loss")
    assert frame.loc["ce", ["n", "n_diverged", "mean"]].tolist() == [1, 1, 0.9]
    assert frame.loc["mae", ["n", "n_diverged"]].tolist() == [0, 1]
    only = summary(tables.cells([record(status="diverged")]))
    assert only[["n", "n_diverged"]].to_numpy().tolist() == [[0, 1]]


def test_bootstrap_agrees_with_scipy_and_covers():
    generator = np.random.default_rng(1)
    rows = generator.normal(5, 2, size=(800, 30))
    low, high = bootstrap(rows)
    assert 0.90 < ((low < 5) & (high > 5)).mean() < 0.97
    reference = scipy.stats.bootstrap(
        (rows[0],), np.mean, method="percentile", n_resamples=20000, rng=generator
    ).confidence_interval
    assert [low[0], high[0]] == pytest.approx(list(reference), abs=0.06)
    assert np.array_equal(low, bootstrap(rows)[0]), "seeded"


def test_summary_does_not_depend_on_record_order():
    rows = [record(seed=s, metrics={"accuracy": 0.5 + s**2 / 100}) for s in range(5)]
    one, two = (summary(tables.cells(part)) for part in (rows, rows[::-1]))
    pd.testing.assert_frame_equal(one, two)


def test_quality_takes_each_topics_primary_metric():
    other = record(topic="regression", metrics={"mse": 3.0}, directions={"mse": "min"})
    assert tables.quality(tables.cells([record(), other])).tolist() == [0.9, 3.0]


def balanced(table, **k):
    """Cells with the metric of ``table[loss][schedule]``."""
    return tables.cells(
        record(loss=loss, schedule=schedule, metrics={"accuracy": value}, **k)
        for loss, row in table.items()
        for schedule, value in row.items()
    )


def test_shares_of_a_balanced_design_by_hand():
    # Means: losses 3 and 5 about 4 (3 cells each: 3 + 3 = 6), schedules 2, 4 and 6
    # (2 cells each: 8 + 0 + 8 = 16), and the four corners are off by 1: 6 + 16 + 4 = 26.
    frame = effects(
        balanced(
            {
                "ce": {"a": 1 + 1, "b": 3, "c": 5 - 1},
                "mse": {"a": 3 - 1, "b": 5, "c": 7 + 1},
            }
        )
    )
    share = frame[(frame.kind == "share") & (frame.metric == "accuracy")].set_index("axis")
    assert share.loc["loss", "value"] == pytest.approx(6 / 26)
    assert share.loc["schedule", "value"] == pytest.approx(16 / 26)
    assert share.loc["residual", "value"] == pytest.approx(4 / 26)
    assert share.loc[["loss", "schedule", "residual"], "df"].tolist() == [1, 2, 2]


def test_shares_of_an_unbalanced_design_against_least_squares():
    generator = np.random.default_rng(0)
    names = ["abc"[i] for i in generator.integers(3, size=40)]
    marks = ["uvwx"[i] for i in generator.integers(4, size=40)]
    y = generator.normal(size=40) + np.array([n == "a" for n in names]) * 2
    cells = tables.cells(
        record(loss=n, schedule=m, seed=0, metrics={"accuracy": v})
        for n, m, v in zip(names, marks, y, strict=True)
    )

    def rss(*factors):
        columns = [np.ones(40)]
        for factor in factors:
            columns += [np.array(factor) == level for level in sorted(set(factor))[1:]]
        x = np.stack(columns, axis=1).astype(float)
        return ((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) ** 2).sum()

    total = ((y - y.mean()) ** 2).sum()
    share = effects(cells).query("kind == 'share'").set_index("axis")["value"]
    assert share["loss"] == pytest.approx((rss(marks) - rss(names, marks)) / total)
    assert share["schedule"] == pytest.approx((rss(names) - rss(names, marks)) / total)


def test_confounded_axes_and_saturated_models_say_so():
    rows = [("ce", "a", 1.0), ("mse", "b", 2.0), ("ce", "a", 1.5)]
    cells = tables.cells(record(loss=n, schedule=m, metrics={"accuracy": v}) for n, m, v in rows)
    share = effects(cells).query("kind == 'share'").set_index("axis")
    assert math.isnan(share.loc["loss", "value"]) and "other axes" in share.loc["loss", "note"]
    two = effects(balanced({"ce": {"a": 1.0}, "mse": {"a": 2.0}}))
    assert two.query("kind == 'share'")["note"].str.contains("as many parameters").all()


def test_turnover_names_the_levels_and_their_best():
    frame = effects(
        balanced(
            {
                "ce": {"a": 3, "b": 1, "c": 3},
                "mse": {"a": 2, "b": 2, "c": 2},
                "mae": {"a": 1, "b": 3, "c": 1.5},
            }
        )
    )
    row = frame.query("kind == 'turnover' and axis == 'loss' and across == 'schedule'").iloc[0]
    assert row["value"] == -1 and {row["level_1"], row["level_2"]} == {"a", "b"}
    assert (row["best_1"], row["best_2"], row["n"]) == ("ce", "mae", 3)
    constant = effects(balanced({"ce": {"a": 1, "b": 1}, "mse": {"a": 1, "b": 1}}))
    assert constant.empty, "nothing varies: nothing to explain"


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=9))
@settings(deadline=None)
def test_kendall_agrees_with_scipy(pairs):
    table = np.array(pairs, dtype=float)
    table = np.vstack([table, [np.nan, 1.0]])
    expected = scipy.stats.kendalltau(*np.array(pairs).T).statistic
    assert kendall(table)[0, 1] == pytest.approx(expected, nan_ok=True)


def test_write_leaves_seven_files_and_no_temporary(tmp_path):
    rows = [record(seed=s, loss=n) for s in range(2) for n in ("ce", "mse")]
    result = tables.write(json.loads(json.dumps(rows)), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("cells.csv", "cells.parquet", "curves.parquet", "effects.csv", "improvement.csv"),
        *("summary.csv", "transfer.csv"),
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
