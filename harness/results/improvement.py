"""Which model is better, over seeds: probability of improvement (Agarwal et al. 2021).

Knows the frame of ``tables.cells`` only.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from harness.results.effects import direction

SETTING = ["topic", "loss", "schedule", "parallel"]
COLUMNS = [*SETTING, "metric", "model", "other", "n", "n_other", "probability", "low", "high"]
REPLICATES = 2000


def improvement(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per setting and pair of models with two seeds or more each, by the primary metric.

    probability: that a seed of ``model`` is better than one of ``other``, ties counting half, with
    its 95 % interval over resampled seeds.
    """
    rows: list[dict[str, Any]] = []
    done = cells[cells["status"] == "done"] if len(cells) else cells
    for setting, group in done.groupby(SETTING, sort=True) if len(done) else ():
        metric = str(group["primary"].iloc[0])
        if f"metric.{metric}" not in group:
            continue
        better = direction(group, metric)
        values = dict(_seeds(group, metric))
        for model, other in combinations(sorted(values), 2):
            found = probability(values[model], values[other], better)
            rows.append(
                dict(zip(SETTING, setting, strict=True))
                | {"metric": metric, "model": model, "other": other}
                | {"n": len(values[model]), "n_other": len(values[other])}
                | dict(zip(("probability", "low", "high"), found, strict=True))
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def probability(one: np.ndarray, other: np.ndarray, better: str) -> tuple[float, float, float]:
    """P(one is better than other) over all pairs of seeds, and its bootstrap interval.

    It is the Mann-Whitney U statistic over the number of pairs.
    """
    sign = 1 if better == "max" else -1
    wins = (np.sign(sign * (one[:, None] - other[None, :])) + 1) / 2
    draw = np.random.default_rng(0)
    rows = draw.integers(len(one), size=(REPLICATES, len(one)))
    columns = draw.integers(len(other), size=(REPLICATES, len(other)))
    resampled = wins[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(wins.mean()), float(low), float(high)


def _seeds(group: pd.DataFrame, metric: str) -> Iterator[tuple[str, np.ndarray]]:
    for model, part in group.groupby("model"):
        values = part[f"metric.{metric}"].dropna().to_numpy(float)
        if len(values) >= 2:
            yield str(model), values
