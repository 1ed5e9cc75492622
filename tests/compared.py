"""Runs of a few invented cells, and what a comparison says of them."""

from harness.results import tables


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
