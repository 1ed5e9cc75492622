"""Verdicts between two runs, and what cannot be compared."""

import json

import numpy as np
import pandas as pd
import pytest
from frames import frame

from harness.results import compare, tables
from harness.results.compare.statistic import judged
from harness.results.compare.text import lines
from harness.results.verdict import Verdict


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "same"),
        ({"shift": 0.005}, "same"),
        ({"shift": 0.1}, "better"),
        ({"shift": -0.1}, "worse"),
        ({"speed": 50.0}, "worse"),
        ({"speed": 103.0}, "same"),
        ({"equal": False}, "worse"),
        ({"speed": 50.0, "cpu": "other"}, "same"),
    ],
)
def test_the_verdict(change, verdict):
    found = compare.compare(frame(), frame(**change))
    assert found.verdict == verdict, found.table
    assert found.exit_code == (verdict == "worse")


def record(seed=0, topic="vgg", **changes):
    """A finished cell's record."""
    plain = {
        "id": f"{topic}/vgg11-ce-cosine-ddp-s{seed}",
        **{"topic": topic, "model": "vgg11", "loss": "ce", "schedule": "cosine"},
        **{"parallel": "ddp", "seed": seed, "status": "done", "dataset": "digits@1"},
        **{"population": 1, "world_size": 2, "budget": {"steps": 10, "batch_size": 8}},
        "metrics": {"accuracy": 0.8 + 0.01 * seed, "ece": 0.1, "top3": 0.9},
        "directions": {"accuracy": "max", "ece": "min", "top3": "max"},
        "cost": {"samples_per_s": 100.0, "peak_memory_mb": 10.0},
        "checkpoint": dict.fromkeys(("state_equal", "resume_equal", "metrics_equal"), True),
        "parity": {"exact": True, "equal": True},
        "environment": {"device": "cpu", "cpu": "x"},
    }
    return plain | changes


def fault(seed, status, reason=""):
    """The record of a cell that has no result."""
    empty = dict.fromkeys(("metrics", "cost", "checkpoint", "parity", "evaluation"), {})
    return record(seed, status=status, reason=reason, **empty)


def run(changed=(), count=6, **changes):
    """A run's cells: the changed ones, and plain ones for the other seeds."""
    changed = list(changed)
    taken = {one["seed"] for one in changed}
    left = [record(seed, **changes) for seed in range(count) if seed not in taken]
    return tables.cells([*changed, *left])


def rows(found, verdict):
    return {(row.aspect, row.note) for row in found.rows if row.verdict == verdict}


def metrics(**values):
    return {"metrics": {"accuracy": 0.8, "ece": 0.1, "top3": 0.9} | values}


def test_missing_cells_make_a_run_not_whole():
    found = compare.compare(run(), run(count=1))
    assert (found.verdict, found.exit_code) == ("not whole", 3)
    assert found.missing == tuple(f"vgg/vgg11-ce-cosine-ddp-s{seed}" for seed in range(1, 6))
    ((aspect, note),) = rows(found, "not whole")
    assert aspect == "cells" and note.startswith("5 absent, done in the baseline: vgg/vgg11-ce-")
    assert note.endswith("-s3 and 2 more")
    assert found.rows[0].cells == found.missing and found.rows[0].candidate == 1


def test_worse_counts_before_not_whole_and_not_whole_before_better():
    lower, higher = metrics(accuracy=0.1), metrics(accuracy=1.0)
    assert compare.compare(run(), run(count=3, **lower)).verdict == "worse"
    assert compare.compare(run(), run(count=3, **higher)).verdict == "not whole"
    assert compare.compare(run(), run(**higher)).verdict == "better"


@pytest.mark.parametrize("status", ["failed", "timeout", "skipped", "diverged"])
def test_a_cell_that_was_done_and_is_not_now_is_worse(status):
    found = compare.compare(run(), run([fault(2, status, "out of memory\nat 0x1")]))
    (told,) = rows(found, "worse")
    assert told == (
        "cells",
        f"1 {status}, done in the baseline (out of memory at 0x1): vgg/vgg11-ce-cosine-ddp-s2",
    )
    assert found.missing == () and found.exit_code == 1


@pytest.mark.parametrize(
    ("was", "now", "verdict"),
    [
        ("failed", "done", "better"),
        ("diverged", "done", "better"),
        ("timeout", "diverged", "better"),
        ("diverged", "failed", "worse"),
        ("diverged", "diverged", "same"),
        ("failed", "failed", "same"),
        ("skipped", "done", "same"),
        ("skipped", "failed", "same"),
        ("failed", "skipped", "same"),
    ],
)
def test_a_cell_that_ended_otherwise(was, now, verdict):
    a, b = (fault(2, s) if s != "done" else record(2) for s in (was, now))
    found = compare.compare(run([a]), run([b]))
    assert {row.verdict for row in found.rows if row.aspect == "cells"} == {verdict}
    assert found.verdict == verdict


def test_cells_lost_and_regained_are_not_offset():
    found = compare.compare(run([fault(1, "failed")]), run([fault(2, "failed")]))
    assert {row.verdict for row in found.rows if row.aspect == "cells"} == {"better", "worse"}
    assert found.verdict == "worse"


def test_new_cells_are_named_and_not_better():
    found = compare.compare(run(count=3), run(count=4))
    assert found.verdict == "same" and found.new == ("vgg/vgg11-ce-cosine-ddp-s3",)
    assert ("cells", "1 new, done: vgg/vgg11-ce-cosine-ddp-s3") in rows(found, "same")


def test_a_topic_that_is_gone_makes_it_not_whole():
    both = tables.cells([record(0), record(0, "other")])
    found = compare.compare(both, run(count=1))
    assert {row.topic for row in found.rows if row.verdict == "not whole"} == {"other"}


@pytest.mark.parametrize(
    ("metric", "value", "verdict"),
    [
        ("ece", 0.5, "worse"),
        ("ece", 0.02, "better"),
        ("top3", 0.45, "worse"),
        ("top3", 0.95, "better"),
        ("accuracy", 0.4, "worse"),
        ("ece", float("nan"), "worse"),
        ("top3", None, "worse"),
        ("ece", float("inf"), "worse"),
        ("ece", float("-inf"), "better"),
        ("top3", float("inf"), "better"),
        ("top3", float("-inf"), "worse"),
    ],
)
def test_every_metric_counts(metric, value, verdict):
    found = compare.compare(run(**metrics()), run(**metrics(**{metric: value})))
    assert found.verdict == verdict, found.table
    assert {row.aspect for row in found.rows if row.verdict != "same"} == {metric}


def test_a_metric_that_is_gone_is_worse_and_a_new_one_is_named():
    without = {"metrics": {"accuracy": 0.8, "ece": 0.1}}
    without["directions"] = {"accuracy": "max", "ece": "min"}
    lost = compare.compare(run(**metrics()), run(**without))
    ((aspect, note),) = rows(lost, "worse")
    assert aspect == "top3" and note.startswith("6 no longer measured: ")
    new = compare.compare(run(**without), run(**metrics()))
    ((aspect, note),) = rows(new, "better")
    assert aspect == "top3" and note.startswith("6 measured now only: ")


def test_equal_infinities_are_the_same_and_in_no_mean():
    odd = [record(0, **metrics(ece=float("inf")))]
    found = compare.compare(run(odd), run(odd))
    assert found.verdict == "same"
    assert {row.baseline for row in found.rows if row.aspect == "ece"} == {float("inf"), 0.1}


def test_a_metric_without_a_direction_is_named():
    found = compare.compare(*[run(**metrics(odd=value)) for value in (1.0, 2.0)])
    assert ("odd", "no direction, max or min: not compared") in rows(found, "same")


@pytest.mark.parametrize("allowed", ["maximize", "MAX", "", "1"])
def test_a_direction_that_is_none_is_refused(allowed):
    wrong = {"directions": {"accuracy": allowed}}
    for pair in ((run(), run(**wrong)), (run(**wrong), run()), (run(**wrong), run(**wrong))):
        with pytest.raises(compare.NotComparable, match="vgg's accuracy is .*: max and min are al"):
            compare.compare(*pair)


def test_directions_that_differ_are_refused():
    turned = {"directions": {"accuracy": "max", "ece": "max"}}
    with pytest.raises(compare.NotComparable, match="vgg's ece is 'max' in the candidate"):
        compare.compare(run(), run(**turned))
    with pytest.raises(compare.NotComparable, match="vgg's ece is 'min' in the baseline and 'max'"):
        compare.compare(run([record(3, **turned)]), run())


@pytest.mark.parametrize(
    ("was", "now", "verdict", "note"),
    [
        (
            {"exact": True, "equal": True},
            {"exact": True, "equal": False},
            "worse",
            "no longer hold",
        ),
        ({"exact": True, "equal": True}, {}, "worse", "no longer measured"),
        ({}, {"exact": True, "equal": False}, "worse", "no longer hold"),
        ({"exact": True, "equal": False}, {"exact": True, "equal": True}, "better", "hold again"),
        ({"exact": True, "equal": True}, {"exact": False}, "same", "exact no longer"),
        ({"exact": False}, {"exact": True, "equal": True}, "same", "exact now"),
        ({"exact": False}, {"exact": False}, "same", None),
        ({}, {}, "same", None),
    ],
)
def test_parity(was, now, verdict, note):
    found = compare.compare(*[run([record(4, parity=p)]) for p in (was, now)])
    assert found.verdict == verdict
    told = {row.note for row in found.rows if row.aspect == "parity.equal"}
    assert told == {f"1 {note}: vgg/vgg11-ce-cosine-ddp-s4" if note else ""}


@pytest.mark.parametrize("name", ["state_equal", "resume_equal", "metrics_equal"])
@pytest.mark.parametrize(
    ("was", "now", "verdict"),
    [
        *[(True, False, "worse"), (True, None, "worse"), (None, False, "worse")],
        *[(None, None, "same"), (None, True, "same"), (False, False, "same")],
        (False, True, "better"),
    ],
)
def test_checks_of_checkpoints(name, was, now, verdict):
    pair = [run([record(4, checkpoint={name: value})], count=1) for value in (was, now)]
    found = compare.compare(*pair)
    assert found.verdict == verdict
    told = {row.verdict for row in found.rows if row.aspect == f"checkpoint.{name}"}
    assert told == {verdict}


def test_a_generator_that_failed_is_worse_and_no_reason_to_refuse():
    judged_by = {"evaluation": {"extractor": "a@1", "real": 9, "generated": 9}}
    found = compare.compare(run(**judged_by), run([fault(1, "failed")], **judged_by))
    assert found.verdict == "worse" and len(rows(found, "worse")) == 1
    every = tables.cells([fault(seed, "failed") for seed in range(6)])
    assert compare.compare(run(**judged_by), every).verdict == "worse"


@pytest.mark.parametrize("name", ["extractor", "real", "generated", "episodes", "held_out"])
def test_another_evaluation_is_refused(name):
    with pytest.raises(compare.NotComparable, match=f"evaluation.{name} of vgg/.* is 1.* and 2"):
        compare.compare(*[run(evaluation={name: value}) for value in (1, 2)])


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [
        ("/home/a/t.csv@0123456789ab", "t@0123456789ab", True),
        ("t@0123456789ab", "t@0123456789ac", False),
        ("CartPole-v1@gymnasium-1.4.0", "Acrobot-v1@gymnasium-1.4.0", False),
        ("a@b@0123456789ab", "0123456789ab", False),
        ("digits", "mnist", False),
    ],
)
def test_data_is_known_by_its_content_not_its_path(a, b, alike):
    pair = [run(dataset=name) for name in (a, b)]
    if alike:
        assert compare.compare(*pair).verdict == "same"
    else:
        with pytest.raises(compare.NotComparable, match="dataset of vgg"):
            compare.compare(*pair)


def test_what_is_not_comparable_is_refused():
    with pytest.raises(compare.NotComparable, match=r"budget.steps of vgg/vgg11"):
        compare.compare(frame(), frame(steps=20))
    with pytest.raises(compare.NotComparable, match="no trained cell in common"):
        compare.compare(frame(), frame().assign(id="other"))
    with pytest.raises(compare.NotComparable, match="no trained cell in common"):
        compare.compare(*[tables.cells([fault(0, "failed")])] * 2)
    with pytest.raises(compare.NotComparable, match="s0 is more than once in the candidate"):
        compare.compare(run(), pd.concat([run(), run(count=1)]))


@pytest.mark.parametrize("change", [{"population": 4}, {"world_size": 4}])
def test_costs_of_other_sizes_are_not_compared(change):
    slow = {"cost": {"samples_per_s": 1.0, "peak_memory_mb": 900.0}}
    assert compare.compare(run(), run(**slow)).verdict == "worse"
    found = compare.compare(run(), run(**slow, **change))
    assert found.verdict == "same" and ("samples_per_s", "not measured") in rows(found, "same")


def test_a_cost_says_how_it_was_measured():
    found = compare.compare(run(), run())
    assert ("samples_per_s", "x1.000, trained beside other cells") in rows(found, "same")


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ([1.0], [0.1], "same"),
        ([1.0, 1.0], [0.995, 0.995], "same"),
        ([1.0, 1.0], [0.98, 0.98], "worse"),
        ([0.0, 0.0], [0.0, 0.0], "same"),
        ([1e308, 1e308], [-1e308, -1e308], "worse"),
        ([1.0, 2.0, 3.0], [1.5, 1.5, 3.6], "same"),
    ],
)
def test_the_statistic(a, b, verdict):
    assert judged(np.array(a), np.array(b), True) == verdict
    turned = {"worse": "better"}.get(verdict, verdict)
    assert judged(np.array(a), np.array(b), False) == turned


def test_the_text_has_the_worst_first_and_fits_into_a_hundred_columns():
    bad = [fault(1, "failed", "a long reason " * 20), fault(2, "skipped", "no GPU")]
    found = compare.compare(run(), run(bad, 5, **metrics(ece=0.5, accuracy=1.0)))
    told = list(lines(found))
    assert max(map(len, told)) <= 100
    order = [line.split("  ")[0] for line in told[1:-1] if not line.startswith(" ")]
    assert order == sorted(order, key=["worse", "not whole", "better", "same"].index)
    assert len(order) == len(found.rows) and order[:3] == ["worse"] * 3
    counts = f"3 worse, 1 not whole, 1 better, {len(order) - 5} same"
    assert told[-1] == f"verdict: worse (rows: {counts})"
    for name in ("s1", "s2", "s5"):
        assert any(f"vgg/vgg11-ce-cosine-ddp-{name}" in line for line in told)


def test_the_dictionary_is_strict_json():
    found = compare.compare(run(), run(count=5, **metrics(ece=float("inf"), top3=float("nan"))))
    values = found.to_dict()
    assert values == json.loads(json.dumps(values, allow_nan=False))
    assert values["verdict"] == "worse" and values["exit_code"] == 1
    assert values["missing"] == ["vgg/vgg11-ce-cosine-ddp-s5"]
    assert sum(values["counts"].values()) == len(values["rows"])
    assert {row["candidate"] for row in values["rows"] if row["aspect"] == "ece"} == {None}


def test_each_verdict_has_an_exit_code():
    assert {v: v.exit_code for v in Verdict} == {
        **{"same": 0, "better": 0, "worse": 1, "not comparable": 2, "not whole": 3}
    }
