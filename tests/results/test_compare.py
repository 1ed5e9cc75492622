"""Verdicts between two runs."""

import json

import pytest
from compared import fault, metrics, record, rows, run
from frames import frame

from harness.results import compare, tables
from harness.results.compare.text import lines
from harness.results.verdict import Verdict


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "same"),
        ({"shift": 0.005}, "same"),
        ({"shift": 0.1}, "better"),
        ({"shift": -0.1}, "worse"),
        ({"speed": 50.0}, "same"),
        ({"equal": False}, "worse"),
    ],
)
def test_the_verdict(change, verdict):
    found = compare.compare(frame(), frame(**change))
    assert found.verdict == verdict, found.table
    assert found.exit_code == (verdict == "worse")


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


def test_one_cell_that_diverges_now_may_be_chance_unless_all_else_is_the_same():
    changed = fault(2, "diverged")
    found = compare.compare(run(), run([changed]))
    ((aspect, note),) = rows(found, "not enough evidence")
    assert aspect == "cells" and note.startswith("1 diverged, done in the baseline: it may be ch")
    same = {"fingerprint": "abc"}
    assert compare.compare(run(**same), run([changed | same], **same)).verdict == "worse"
    every = [fault(seed, "diverged") for seed in range(6)]
    assert compare.compare(run(), run(every)).verdict == "worse"
    assert compare.compare(run(every), run()).verdict == "better"


def copies(lost=(), exact=True):
    """A run of twelve seeds, each in three parallel configurations; some of the cells diverge."""
    cells = []
    for parallel in ("ddp", "zero1", "fsdp"):
        for seed in range(12):
            own = fault(seed, "diverged") if (parallel, seed) in lost else record(seed)
            where = {"id": own["id"].replace("ddp", parallel), "parallel": parallel}
            cells.append(own | where | {"parity": {"exact": exact}})
    return tables.cells(cells)


@pytest.mark.parametrize(
    ("lost", "exact", "verdict"),
    [
        ([(name, s) for name in ("ddp", "zero1", "fsdp") for s in (3, 8)], True, "not enough"),
        ([(name, s) for name in ("ddp", "zero1", "fsdp") for s in (3, 8)], False, "worse"),
        ([("ddp", seed) for seed in range(12)], True, "worse"),
    ],
)
def test_exact_copies_that_diverge_are_one_training_each(lost, exact, verdict):
    found = compare.compare(copies(exact=exact), copies(lost, exact))
    (row,) = (row for row in found.rows if row.aspect == "cells")
    assert row.verdict.startswith(verdict) and row.note.startswith(f"{len(lost)} diverged, done in")


@pytest.mark.parametrize("status", ["failed", "timeout", "skipped"])
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


@pytest.mark.parametrize("solved", ["baseline", "candidate"])
def test_what_is_never_reached_counts_as_all_its_steps(solved):
    """One seed of six that solves its environment, or no longer does, may be chance."""
    steps = dict(zip(range(6), (500.0, 900.0, 700.0, 1200.0, 800.0, 600.0), strict=True))
    about = {"directions": {"steps_to_solve": "min"}, "evaluation": {"env_steps": 1500}}
    seeds = [{"metrics": {"steps_to_solve": steps[seed]}} | about for seed in steps]
    fewer = [*seeds[:-1], {"metrics": {"steps_to_solve": None}} | about]
    runs = {"baseline": seeds, "candidate": fewer}
    whole, part = (run([record(seed, **own[seed]) for seed in steps]) for own in runs.values())
    pair = (whole, part) if solved == "baseline" else (part, whole)
    assert compare.compare(*pair).verdict == "not enough evidence"


def test_one_that_is_never_reached_leaves_the_margin_of_the_others():
    """Of six configurations of one seed all that reach it take 2 % longer, which is no news."""
    about = {"directions": {"steps_to_solve": "min"}, "evaluation": {"env_steps": 1500}}

    def recorded(factor):
        cells = []
        for number, loss in enumerate(("ce", "mse", "kl", "hinge", "huber", "mae")):
            steps = None if loss == "mae" else factor * (1000.0 + number)
            own = {"id": f"vgg/vgg11-{loss}-cosine-single-s0", "loss": loss, "parallel": "single"}
            cells.append(record(0, metrics={"steps_to_solve": steps}, **own, **about))
        return run(cells, count=1)

    found = compare.compare(recorded(1.0), recorded(1.02))
    (row,) = (row for row in found.rows if row.aspect == "steps_to_solve")
    assert row.verdict == "same", found.table


def test_a_metric_that_is_gone_is_worse_and_a_new_one_is_named():
    without = {"metrics": {"accuracy": 0.8, "ece": 0.1}}
    without["directions"] = {"accuracy": "max", "ece": "min"}
    lost = compare.compare(run(**metrics()), run(**without))
    ((aspect, note),) = rows(lost, "worse")
    assert aspect == "top3" and note.startswith("6 no longer measured: ")
    new = compare.compare(run(**without), run(**metrics()))
    (note,) = {row.note for row in new.rows if row.aspect == "top3"}
    assert note.startswith("6 measured now only: ") and new.verdict == "same"


def test_a_value_that_was_missing_is_better():
    """Such as the steps to a goal that was not reached."""
    found = compare.compare(run([record(1, **metrics(top3=float("nan")))]), run())
    assert ("top3", "1 measured now only: vgg/vgg11-ce-cosine-ddp-s1") in rows(found, "better")


def test_equal_infinities_are_the_same_and_in_no_mean():
    odd = [record(0, **metrics(ece=float("inf")))]
    found = compare.compare(run(odd), run(odd))
    assert found.verdict == "same"
    assert {row.baseline for row in found.rows if row.aspect == "ece"} == {float("inf"), 0.1}


def test_a_metric_without_a_direction_is_named():
    found = compare.compare(*[run(**metrics(odd=value)) for value in (1.0, 2.0)])
    assert ("odd", "no direction, max or min: not compared") in rows(found, "same")


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


@pytest.mark.parametrize("change", [{"population": 4}, {"world_size": 4}])
def test_memory_of_other_sizes_is_not_compared(change):
    large = {"cost": {"peak_memory_mb": 900.0}}
    assert compare.compare(run(), run(**large)).verdict == "worse"
    found = compare.compare(run(), run(**large, **change))
    assert found.verdict == "same" and ("peak_memory_mb", "not measured") in rows(found, "same")


@pytest.mark.parametrize(
    ("device", "times", "verdict"),
    [
        ("cpu", 1.2, "same"),
        ("cpu", 1.3, "worse"),
        ("a GPU", 1.1, "worse"),
        ("a GPU", 0.9, "better"),
    ],
)
def test_memory_of_a_process_moves_more_than_a_gpu_s_allocations(device, times, verdict):
    where = {"environment": {"device": device, "cpu": "x"}}
    first, second = (
        run(
            [record(seed, cost={"peak_memory_mb": mb * (100 + seed)}, **where) for seed in range(6)]
        )
        for mb in (1, times)
    )
    assert compare.compare(first, second).verdict == verdict


def test_memory_that_only_scatters_is_the_same():
    mb = [10.0, 12.5, 9.0, 11.0, 8.0, 13.0]
    first, second = (
        run([record(seed, cost={"peak_memory_mb": own}) for seed, own in enumerate(order)])
        for order in (mb, mb[::-1])
    )
    assert compare.compare(first, second).verdict == "same"


def test_numbers_that_do_not_repeat_are_worse_where_nothing_else_changed():
    same = {"fingerprint": "abc"}
    moved = record(2, **same, **metrics(accuracy=0.8199))
    found = compare.compare(run(**same, **metrics()), run([moved], **same, **metrics()))
    ((aspect, note),) = rows(found, "worse")
    assert aspect == "numbers" and note.startswith("1 of 6 cells' numbers changed though code,")
    other = compare.compare(
        run(**same, **metrics()), run([moved | {"population": 8}], **same, **metrics())
    )
    assert not any(aspect == "numbers" for aspect, _ in rows(other, "worse"))


def test_a_change_of_one_loss_only_is_named():
    def some(**hinge):
        losses = [("ce", {}), ("hinge", hinge), ("mse", {})]
        cells = [record(s, loss=loss, **own) for loss, own in losses for s in range(2)]
        return tables.cells([c | {"id": c["id"].replace("-ce-", f"-{c['loss']}-")} for c in cells])

    found = compare.compare(some(), some(**metrics(accuracy=0.2)))
    (note,) = (row.note for row in found.rows if row.aspect == "numbers")
    assert note == "2 of 6 cells' numbers changed: those of loss hinge, and no others"
    (note,) = (row.note for row in found.rows if row.verdict == "worse")
    assert "vgg11-hinge-cosine -0.605" in note and "-ce-" not in note


def test_one_seed_of_each_configuration_is_no_evidence():
    found = compare.compare(run(count=1), run(count=1, **metrics(accuracy=0.1)))
    ((aspect, note),) = rows(found, "not enough evidence")
    assert aspect == "metrics" and note.endswith("chance: accuracy 0.8 -> 0.1")
    assert found.exit_code == 0


def test_the_text_has_the_worst_first_and_fits_into_a_hundred_columns():
    bad = [fault(1, "failed", "a long reason " * 20), fault(2, "skipped", "no GPU")]
    found = compare.compare(run(), run(bad, 5, **metrics(ece=0.5, accuracy=1.0)))
    told = list(lines(found))
    assert max(map(len, told)) <= 100
    order = [line.split("  ")[0] for line in told[1:-1] if not line.startswith(" ")]
    assert order == sorted(
        order, key=["worse", "not whole", "better", "not enough evidence", "same"].index
    )
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
        **{"same": 0, "better": 0, "not enough evidence": 0},
        **{"worse": 1, "not comparable": 2, "not whole": 3},
    }
