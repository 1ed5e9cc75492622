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
BLOCK = 100  # resamples at once, so that memory grows with the seeds and not with their pairs


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
    order = np.argsort(sign * other, kind="stable")
    ranked = (sign * other)[order]
    worse = np.searchsorted(ranked, sign * one, "left")
    no_better = np.searchsorted(ranked, sign * one, "right")
    pairs = len(one) * len(other)

    def share(one_RN: np.ndarray, other_RM: np.ndarray) -> np.ndarray:
        """Return the share in each of R resamples, from how often each seed is in it."""
        below = np.pad(other_RM[:, order].cumsum(axis=1), ((0, 0), (1, 0)))
        return (one_RN * (below[:, worse] + below[:, no_better])).sum(axis=1) / 2 / pairs

    draw = np.random.default_rng(0)
    one_RN, other_RM = _resampled(draw, len(one)), _resampled(draw, len(other))
    parts = [slice(start, start + BLOCK) for start in range(0, REPLICATES, BLOCK)]
    resampled = np.concatenate([share(one_RN[part], other_RM[part]) for part in parts])
    low, high = np.quantile(resampled, [0.025, 0.975])
    whole = share(np.ones((1, len(one)), int), np.ones((1, len(other)), int))
    return float(whole[0]), float(low), float(high)


def _resampled(draw: np.random.Generator, size: int) -> np.ndarray:
    """Return how often each of ``size`` seeds is in each resample: int32 (REPLICATES, size)."""
    parts = []
    for start in range(0, REPLICATES, BLOCK):
        count = min(BLOCK, REPLICATES - start)
        drawn = draw.integers(size, size=(count, size)) + size * np.arange(count)[:, None]
        found = np.bincount(drawn.ravel(), minlength=count * size)
        parts.append(found.reshape(count, size).astype(np.int32))
    return np.concatenate(parts)


def _seeds(group: pd.DataFrame, metric: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each model that has two finite values of a metric or more, with its values."""
    for model, part in group.groupby("model"):
        values = part[f"metric.{metric}"].dropna().to_numpy(float)
        if len(values) >= 2:
            yield str(model), values
