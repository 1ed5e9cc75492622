"""Compute what a task gains or loses by multi-task training, against learning it alone.

It reads nothing but the DataFrame of ``tables.cells``, whose ``alone.*`` columns name per task's
metric the model that learns only this task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.results.counted import LEFT_OUT, TRIED, counted, current
from harness.results.effects import direction

SETTING = ["topic", "loss", "schedule", "precision", "settings", "seed"]
COLUMNS = [
    *("topic", "model", "loss", "schedule", "parallel", "precision", "settings", "seed", "status"),
    *("metric", "value", "alone", "alone_id", "gain", "delta_m"),
]


def transfer(cells: pd.DataFrame) -> pd.DataFrame:
    """Return each task's gain in each multi-task cell over the model that learns only this task.

    One row per cell that learns several tasks, and task. value: the task's metric; where the cell
    came to nothing (its status says so), its untrained baseline. alone: that of the finished cell
    (alone_id) that learns only this task under the same loss, schedule, precision, settings and
    seed, and the same parallel configuration or else ``single``; rows without such a cell are left
    out. gain: (value - alone) / |alone|, its sign turned where less is better, so that a negative
    one is harm; missing where alone is 0. delta_m: the mean gain over all of the cell's tasks
    (Maninis et al. 2019), missing where one is.
    """
    rows: list[dict[str, Any]] = []
    tried = cells[cells["status"].isin(TRIED) & current(cells)] if len(cells) else cells
    tried = tried.assign(**{k: v for k, v in LEFT_OUT.items() if k not in tried})
    parts = [_counted(part) for _, part in tried.groupby("topic")] if len(tried) else []
    for _, group in pd.concat(parts).groupby(SETTING, sort=True) if parts else ():
        models = _alone(group)
        if not models:
            continue
        together = group[~group["model"].isin(set(models.values()))]
        for cell in together.to_dict("records"):
            found = [_gain(group, cell, metric, model) for metric, model in models.items()]
            gains = [row["gain"] for row in found if row]
            whole = len(gains) == len(models)
            delta_m = float(np.mean(gains)) if whole else np.nan
            rows += [row | {"delta_m": delta_m} for row in found if row]
    return pd.DataFrame(rows, columns=COLUMNS)


def _counted(part: pd.DataFrame) -> pd.DataFrame:
    """Return a topic's cells with each task's metric as ``counted`` has it."""
    return part.assign(
        **{
            f"metric.{metric}": counted(part, metric, direction(part, metric))[0]
            for metric in _alone(part)
            if f"metric.{metric}" in part
        }
    )


def _alone(group: pd.DataFrame) -> dict[str, str]:
    """Return the single-task model of each task's metric, from the ``alone.*`` columns."""
    columns = [column for column in group if str(column).startswith("alone.")]
    named = {str(c).removeprefix("alone."): group[c].dropna().unique() for c in columns}
    return {metric: str(models[0]) for metric, models in named.items() if len(models)}


def _gain(
    group: pd.DataFrame, cell: Mapping[Any, Any], metric: str, model: str
) -> dict[str, Any] | None:
    """Return a cell's row for one task's metric; None if there is no value to compare it with."""
    column = f"metric.{metric}"
    if column not in group:
        return None
    own = (group["model"] == model) & (group["status"] == "done")
    known = group[own & group[column].notna()]
    for ranks in (cell["parallel"], "single"):
        reference = known[known["parallel"] == ranks]
        if len(reference) and np.isfinite(cell[column]):
            alone, value = float(reference[column].iloc[0]), float(cell[column])
            sign = 1 if direction(group, metric) == "max" else -1
            gain = sign * (value - alone) / abs(alone) if alone else np.nan
            return {name: cell[name] for name in COLUMNS[:9]} | {
                "metric": metric,
                "value": value,
                "alone": alone,
                "alone_id": reference["id"].iloc[0],
                "gain": gain,
            }
    return None
