"""When a training reached a target on validation data: steps and seconds, from its held-out curve.

Seconds are those of training alone: the steps' share of ``cost.train_s``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.results.counted import current

SHARE = 0.9  # of what a topic's best cell wins over the untrained network


def held_out(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Build the DataFrame of validation during training: one row per look at a cell.

    id, step, and a column per metric, NaN where a look did not measure it.
    """
    rows = [row for row in records if row.get("held_out")]
    parts = [pd.DataFrame(row["held_out"]).assign(id=str(row["id"])) for row in rows]
    if not parts:
        return pd.DataFrame({"id": pd.Series(dtype="str"), "step": pd.Series(dtype="float64")})
    frame = pd.concat(parts, ignore_index=True)
    return frame[["id", "step", *(name for name in frame if name not in ("id", "step"))]]


def with_targets(
    cells: pd.DataFrame, looks: pd.DataFrame, own: Mapping[str, float | None]
) -> pd.DataFrame:
    """Return cells with ``evaluation.target`` and ``cost.steps_to_target``, ``.seconds_to_target``.

    Without looks they are as they were. own: by topic a target of its primary metric that it sets
    itself; else it is 90 % of the way from the untrained network to the best validation of the
    topic's cells. NaN where a target was not reached, or no curve tells when, and for models that
    another metric judges.
    """
    if looks.empty:
        return cells
    found = {name: np.full(len(cells), np.nan) for name in ("target", "steps", "seconds")}
    lines = {str(name): line for name, line in looks.groupby("id")}
    for (topic, metric), part in cells.groupby(["topic", "primary"], sort=False):
        target, better = _target(part, str(metric), own.get(str(topic)))
        if np.isnan(target):
            continue
        measured = part.get(f"metric.{metric}", pd.Series(np.nan, part.index)).notna()
        judged = part[measured | (part["status"] != "done")]
        at = cells.index.get_indexer(judged.index)
        for index, row in zip(at, judged.itertuples(), strict=True):
            found["target"][index] = target
            line = lines.get(str(row.id))
            if line is None or metric not in line:
                continue
            reached = line["step"][better * line[metric] >= better * target]
            if len(reached):
                found["steps"][index] = reached.min()
    share = found["steps"] / cells["budget.steps"].to_numpy(float)
    found["seconds"] = share * cells["cost.train_s"].to_numpy(float)
    return cells.assign(
        **{
            "evaluation.target": found["target"],
            "cost.steps_to_target": found["steps"],
            "cost.seconds_to_target": found["seconds"],
        }
    )


def _target(part: pd.DataFrame, metric: str, own: float | None) -> tuple[float, int]:
    """Return a topic's target, NaN if nothing tells it, and the sign by which more is better."""
    directions = part.get(f"direction.{metric}", pd.Series(dtype=str)).dropna()
    better = -1 if "min" in set(directions) else 1
    if own is not None:
        return own, better
    done = part[(part["status"] == "done") & current(part)]
    seen, untrained = (done.get(f"{kind}.{metric}") for kind in ("validation", "baseline"))
    if seen is None or untrained is None or seen.isna().all() or untrained.isna().all():
        return np.nan, better
    best = better * (better * seen).max()
    start = untrained.mean()
    return start + SHARE * (best - start), better
