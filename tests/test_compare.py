import pytest

from harness.cell import Budget, Cell
from harness.results import compare, tables
from harness.results.record import Record


def frame(shift=0.0, speed=100.0, equal=True, steps=10, cpu="x"):
    return tables.cells(
        Record(
            Cell("vgg", "vgg11", loss, "cosine", seed=seed),
            "f",
            "done",
            dataset="digits@1",
            budget=Budget(steps, 8),
            metrics={"accuracy": 0.8 + 0.01 * seed + shift},
            baseline={"accuracy": 0.1},
            directions={"accuracy": "max"},
            cost={"samples_per_s": speed, "peak_memory_mb": 10.0},
            checkpoint={n: equal for n in ("state_equal", "resume_equal", "metrics_equal")},
            environment={"device": "cpu", "cpu": cpu},
        ).to_dict()
        for loss in ("ce", "mse")
        for seed in range(3)
    )


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


def test_what_is_not_comparable_is_refused():
    with pytest.raises(compare.NotComparable, match=r"budget.steps of vgg/vgg11"):
        compare.compare(frame(), frame(steps=20))
    with pytest.raises(compare.NotComparable, match="no trained cell in common"):
        compare.compare(frame(), frame().assign(id="other"))
