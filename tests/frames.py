"""A small table of cells."""

from harness.cell import Budget, Cell
from harness.results import tables
from harness.results.record import Record


def frame(shift=0.0, speed=100.0, equal=True, steps=10, cpu="x"):
    return tables.cells(
        Record(
            Cell("vgg", "vgg11", loss, "cosine", seed=seed),
            f"f{shift}",  # other numbers come from other code
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
