"""Compare two runs: one verdict over quality, speed, memory and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

TOLERANCE = 0.05  # relative; one build on one machine moves 5 % (TorchBench PR 363)
CHECKS = ("checkpoint.state_equal", "checkpoint.resume_equal", "checkpoint.metrics_equal")


class NotComparable(ValueError):  # noqa: N818  (it reads as what it says)
    """Raised for two runs that measured different things; the message says which."""


@dataclass(frozen=True)
class Comparison:
    """The result of comparing a candidate run with a baseline run.

    table: a row per topic and aspect (share of cells done, primary metric, speed, memory,
    checkpoint checks) with both means and a verdict: same, better or worse.
    """

    table: pd.DataFrame

    @property
    def verdict(self) -> str:
        """``worse`` if any row is, else ``better`` if any is, else ``same``."""
        found = set(self.table["verdict"])
        return "worse" if "worse" in found else "better" if "better" in found else "same"

    @property
    def exit_code(self) -> int:
        """1 if the candidate is worse, else 0."""
        return 1 if self.verdict == "worse" else 0


def compare(baseline: pd.DataFrame, candidate: pd.DataFrame) -> Comparison:
    """Compare a candidate run with a baseline, from their DataFrames of ``tables.cells``.

    Cells are matched by id, skipped ones left out. Quality differs where the mean difference of
    matched cells is over twice its standard error and over 1 % of the baseline; speed and memory
    where the median ratio is off by over 5 %, among the cells that trained in populations of the
    same size in both. Raises NotComparable if no cell is in common, or if the data, budget or
    evaluation of one differ.
    """
    both = baseline.merge(candidate, on="id", suffixes=("_a", "_b"))
    both = both[(both["status_a"] != "skipped") & (both["status_b"] != "skipped")]
    if both.empty:
        raise NotComparable("the two runs have no trained cell in common")
    alike = ("dataset", "budget.steps", "budget.batch_size", "budget.samples")
    judged = ("evaluation.extractor", "evaluation.real", "evaluation.generated")
    for column in (*alike, *(name for name in judged if f"{name}_a" in both)):
        a, b = both[f"{column}_a"], both[f"{column}_b"]
        differ = (a != b) & ~(a.isna() & b.isna())
        if differ.any():
            first = both[differ].iloc[0]
            raise NotComparable(
                f"{column} of {first['id']} is {first[column + '_a']} and {first[column + '_b']}"
            )
    same_machine = bool(
        (both["environment.device_a"] == both["environment.device_b"]).all()
    ) and bool((both["environment.cpu_a"] == both["environment.cpu_b"]).all())
    rows = []
    for topic, cells in both.groupby("topic_a"):
        rows.append({"topic": topic, **_statuses(cells)})
        rows.append({"topic": topic, **_quality(cells)})
        for aspect, higher in (("samples_per_s", True), ("peak_memory_mb", False)):
            rows.append({"topic": topic, **_cost(cells, aspect, higher, same_machine)})
        rows += [{"topic": topic, **_check(cells, name)} for name in CHECKS]
    return Comparison(pd.DataFrame(rows))


def _row(aspect: str, a: float, b: float, verdict: str, note: str = "") -> dict:
    return {"aspect": aspect, "baseline": a, "candidate": b, "verdict": verdict, "note": note}


def _statuses(cells: pd.DataFrame) -> dict:
    """Compare the shares of cells that are ``done``."""
    a, b = ((cells[f"status_{side}"] == "done").mean() for side in "ab")
    return _row("share done", a, b, _verdict(b - a, 0, True))


def _quality(cells: pd.DataFrame) -> dict:
    """Compare the primary metric over matched cells; a single pair is never a difference."""
    metric = next(iter(cells["primary_a"].dropna()), "")
    name = f"metric.{metric}"
    if f"{name}_a" not in cells or f"{name}_b" not in cells:
        return _row(metric, np.nan, np.nan, "same", "not measured")
    pairs = cells[[f"{name}_a", f"{name}_b"]].dropna().to_numpy("float64")
    if not len(pairs):
        return _row(metric, np.nan, np.nan, "same", "not measured")
    difference = pairs[:, 1] - pairs[:, 0]
    noise = 2 * difference.std(ddof=1) / len(pairs) ** 0.5 if len(pairs) > 1 else np.inf
    bound = max(float(noise), 0.01 * abs(pairs[:, 0].mean()))
    higher = cells[f"direction.{metric}_a"].dropna().iloc[0] == "max"
    note = f"{len(pairs)} cells" if len(pairs) > 1 else "one cell is no evidence"
    a, b = pairs.mean(0)
    return _row(metric, a, b, _verdict(difference.mean(), bound, higher), note)


def _cost(cells: pd.DataFrame, aspect: str, higher: bool, same_machine: bool) -> dict:
    """Compare a cost by the median ratio over matched cells, on the same machine only."""
    a, b = (cells[f"cost.{aspect}_{side}"].to_numpy("float64") for side in "ab")
    alike = cells["population_a"] == cells["population_b"]
    known = np.isfinite(a) & np.isfinite(b) & alike.to_numpy()
    if not known.any():
        return _row(aspect, np.nan, np.nan, "same", "not measured")
    a, b = a[known], b[known]
    if not same_machine:
        return _row(aspect, a.mean(), b.mean(), "same", "other machine: not compared")
    ratio = float(np.median(b / a))
    return _row(aspect, a.mean(), b.mean(), _verdict(ratio - 1, TOLERANCE, higher), f"x{ratio:.3f}")


def _check(cells: pd.DataFrame, name: str) -> dict:
    """Compare a checkpoint check: worse if it fails where the baseline's held."""
    a, b = (cells[f"{name}_{side}"].astype("boolean").fillna(True) for side in "ab")
    lost = list(cells.loc[a & ~b, "id"])
    return _row(name, a.mean(), b.mean(), "worse" if lost else "same", ", ".join(lost[:3]))


def _verdict(difference: float, bound: float, higher: bool) -> str:
    """Return same, better or worse for a difference, same if it is within ``bound``."""
    if abs(difference) <= bound:
        return "same"
    return "better" if (difference > 0) == higher else "worse"
