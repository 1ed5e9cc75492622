"""Do a cell's checkpoints bring its training back, in a process that never saw it?"""

from __future__ import annotations

import time
from typing import Any

from harness import checkpoint
from harness.axes import parallel
from harness.checkpoint import estimators
from harness.checkpoint.tree import digest as digest_of
from harness.trial.task import Task, device_of, digest, measured, training_of


def audit(task: Task, rank: int, expected: dict[str, Any]) -> dict[str, Any]:
    """The cell's checkpoints, loaded into fresh objects in this fresh process (one for each rank).

    expected: the ``checkpoint`` part of train's outcome. Returns state_equal (what was loaded is
    bit for bit what was saved), resume_equal (so are the parameters after replayed_steps more),
    metrics_equal (evaluating the final checkpoint gives the recorded metrics), bytes, save_s and
    load_s in seconds. An estimator has nothing to resume: None.
    """
    kept = {name: expected[name] for name in ("bytes", "save_s", "replayed_steps")}
    if task.cell.model in task.topic.fits:
        begun = time.perf_counter()
        content = checkpoint.load(task.folder / "final.pt")
        estimator = estimators.loads(content["estimator"])
        return kept | {
            "load_s": time.perf_counter() - begun,
            "state_equal": estimators.digest(estimator) == expected["final_digest"],
            "resume_equal": None,
            "metrics_equal": task.topic.evaluate({"model": estimator}, task.cell)
            == expected["metrics"],
        }
    device = device_of(task, rank)
    training = training_of(task, device, rank)
    begun = time.perf_counter()
    training.restore(checkpoint.load(task.folder / "middle.pt"))
    load_s = time.perf_counter() - begun
    state_equal = digest_of(parallel.whole(training.snapshot())) == expected["digest"]
    training.run(task.middle + task.replayed)
    resume_equal = digest(training) == expected["replayed_digest"]
    training.restore(checkpoint.load(task.folder / "final.pt"))
    values = training.evaluate()
    if rank != 0:
        return {}
    return kept | {
        "load_s": load_s,
        "state_equal": state_equal,
        "resume_equal": resume_equal,
        "metrics_equal": measured(task, values)["metrics"] == expected["metrics"],
    }
