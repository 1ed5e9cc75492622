"""Estimate the probability that one model beats another over seeds (Agarwal et al. 2021).

It reads nothing but the DataFrame of ``tables.cells``.
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
    """Return the probability that one model beats another, a row per setting and pair of models.

    A setting is a topic, loss, schedule and parallel configuration in which both models have two
    seeds or more that are ``done``. probability: that a seed of ``model`` has a better primary
    metric than one of ``other``, ties counting half; low, high: its 95 % bootstrap interval over
    seeds. n, n_other: the seeds of each.
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
    """Return the share of pairs in which ``one`` beats ``other``, and its 95 % bootstrap interval.

    one, other: a metric's values over seeds, 1-D; better: ``max`` or ``min``. Ties count half, so
    it is the Mann-Whitney U statistic over the number of pairs.
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
    """Yield each model that has two finite values of a metric or more, with its values."""
    for model, part in group.groupby("model"):
        values = part[f"metric.{metric}"].dropna().to_numpy(float)
        if len(values) >= 2:
            yield str(model), values
