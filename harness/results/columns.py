"""Names and types of the columns of a run's tables."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from harness.cell import FP32

CONFIGURATION = ["topic", "model", "loss", "schedule", "parallel", "precision"]
BASE = [
    *("id", *CONFIGURATION, "seed", "rate", "settings", "status", "reason"),
    *("diverged_at", "world_size", "population", "profile", "dataset", "data_notes"),
    *("untrainable", "unrepeatable"),
    *("fingerprint", "setup", "started", "command", "traceback"),
]
LINES = ("data_notes", "unrepeatable")  # several texts, one under the other
NUMBERS = {"seed", "world_size", "population"}
CURVE = ("step", "loss", "lr")
GROUPS = {
    "metrics": "metric",
    "validation": "validation",
    "baseline": "baseline",
    "evaluation": "evaluation",
    "directions": "direction",
    "budget": "budget",
    "set_to": "set",
    "cost": "cost",
    "checkpoint": "checkpoint",
    "parity": "parity",
    "environment": "environment",
}
NUMERIC = {"metric", "validation", "baseline", "budget", "cost"}
ALWAYS = {
    "budget": ("steps", "batch_size", "samples"),
    "cost": (
        *("wall_s", "train_s", "first_steps_s", "eval_s", "audit_s", "step_ms", "samples_per_s"),
        *("peak_memory_mb", "energy_j", "parameters"),
        *("steps_to_target", "seconds_to_target"),
    ),
    "checkpoint": (
        *("state_equal", "resume_equal", "metrics_equal"),
        *("bytes", "save_s", "load_s", "replayed_steps"),
    ),
    "parity": ("difference", "steps", "exact", "equal"),
    "evaluation": ("extractor", "real", "generated", "target"),
    "environment": ("python", "torch", "torchvision", "device", "cpu", "threads"),
}
FLAGS = {
    *("checkpoint.state_equal", "checkpoint.resume_equal", "checkpoint.metrics_equal"),
    *("parity.exact", "parity.equal"),
}
SUMMARY = {
    **dict.fromkeys(CONFIGURATION, "str"),
    "rate": "float64",
    **dict.fromkeys(["settings", "metric", "direction"], "str"),
    "primary": "bool",
    **dict.fromkeys(["n", "trained", "n_diverged"], "int64"),
    **dict.fromkeys(["mean", "sd", "iqm", "ci_low", "ci_high", "baseline"], "float64"),
    **dict.fromkeys(["validation", "train_s"], "float64"),
    **dict.fromkeys(["standing", "chosen_by"], "str"),
}
STUDIES: dict[str, dict[str, str]] = {
    "parity": {
        **dict.fromkeys(["topic", "model", "parallel", "reason"], "str"),
        **{"ranks": "int64", "steps": "Int64"},
        **{"difference": "float64", "exact": "bool", "equal": "boolean"},
    },
    "scaling": {
        **{"topic": "str", "model": "str", "parallel": "str", "ranks": "int64"},
        **dict.fromkeys(["step_ms", "samples_per_s", "speedup", "efficiency"], "float64"),
        **dict.fromkeys(["sent_mb", "state_mb", "peak_memory_mb"], "float64"),
    },
    "resharding": {
        **dict.fromkeys(["topic", "model", "saved_under", "loaded_under"], "str"),
        **{"saved_ranks": "int64", "loaded_ranks": "int64"},
        **{"state_equal": "bool", "data_equal": "bool", "difference": "float64"},
    },
    "speed": {
        **{"topic": "str", "model": "str", "process": "int64", "round": "int64"},
        **dict.fromkeys(["step_ms", "small_ms", "large_ms"], "float64"),
    },
    "answers": {
        **dict.fromkeys(["topic", "model", "loss", "schedule", "precision"], "str"),
        **{"rate": "float64", "settings": "str", "verdict": "str"},
        **{"recipe": "bool", "dropped_by": "Int64"},
        **{"metric": "str", "direction": "str", "margin": "float64", "chosen_by": "str"},
        **dict.fromkeys(["validation", "behind", "behind_low", "behind_high"], "float64"),
        **dict.fromkeys(["test", "test_low", "test_high"], "float64"),
        **dict.fromkeys(["test_behind", "test_behind_low", "test_behind_high"], "float64"),
        **{"blocks": "int64", "seeds": "int64", "trained": "str", "trained_low": "float64"},
        **{"train_s": "float64", "stopped": "str", "race": "str", "setup": "str"},
    },
    "trials": {
        **dict.fromkeys(["topic", "model", "loss", "schedule"], "str"),
        **{"rate": "float64", "share": "int64", "seed": "int64", "status": "str"},
        **{"metric": "str", "direction": "str", "value": "float64", "second": "float64"},
    },
}
MAY_BE_EMPTY = {"reason", "stopped", "settings", "race", "setup"}
# columns that earlier versions did not write, and what stands for them
LATER: dict[str, dict[str, str | float]] = {
    "parity": {"steps": float("nan")},
    "speed": {"process": 0, "small_ms": float("nan"), "large_ms": float("nan")},
    "answers": {"settings": "", "precision": FP32, "race": "", "setup": ""},
    "trials": {"second": float("nan")},
}


class Tables(NamedTuple):
    """The DataFrames of one run, each as the function or study of its name describes it.

    benchmark is pytest-benchmark's JSON, normalised. Those that a run need not have are None.
    """

    cells: pd.DataFrame
    curves: pd.DataFrame
    summary: pd.DataFrame
    effects: pd.DataFrame
    improvement: pd.DataFrame | None = None
    transfer: pd.DataFrame | None = None
    benchmark: pd.DataFrame | None = None
    parity: pd.DataFrame | None = None
    scaling: pd.DataFrame | None = None
    resharding: pd.DataFrame | None = None
    answers: pd.DataFrame | None = None
    speed: pd.DataFrame | None = None
    trials: pd.DataFrame | None = None
    held_out: pd.DataFrame | None = None
