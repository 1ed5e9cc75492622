"""Estimate the probability that one model beats another over seeds (Agarwal et al. 2021).

It reads nothing but the DataFrame of ``tables.cells``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from harness.results.counted import competitors, counted
from harness.results.effects import direction
from harness.results.quantiles import beta_quantile

SETTING = ["topic", "loss", "schedule", "parallel", "precision", "settings"]
COLUMNS = [
    *(*SETTING, "metric", "model", "rate", "other", "rate_other"),
    *("n", "n_other", "probability", "low", "high"),
]


def improvement(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the probability that one model beats another, a row per setting and pair of models.

    A setting is a topic, loss, schedule, parallel configuration, precision and swept values in
    which both models have two seeds or more; exact parallel configurations stand in for single.
    probability: that a seed of ``model`` has a better primary metric than one of ``other``, ties
    counting half, a training that came to nothing as its untrained baseline; recipes with a seed
    that has no finite value are left out; low, high: its 95 % interval (``probability``). n,
    n_other: the seeds of each; rate, rate_other: their multiples of the topic's learning rate.
    """
    rows: list[dict[str, Any]] = []
    kept = competitors(cells) if len(cells) else cells
    for topic, part in kept.groupby("topic", sort=True) if len(kept) else ():
        metric = next((name for name in part["primary"] if name), "")
        better = direction(part, metric)
        part = part.assign(counted=counted(part, metric, better)[0])
        for setting, group in part.groupby(SETTING[1:], sort=True):
            for (one, ours), (two, theirs) in combinations(_seeds(group), 2):
                if one[0] == two[0]:
                    continue
                found = probability(ours, theirs, better)
                rows.append(
                    dict(zip(SETTING, (topic, *setting), strict=True))
                    | {"metric": metric, "model": one[0], "rate": one[1]}
                    | {"other": two[0], "rate_other": two[1]}
                    | {"n": len(ours), "n_other": len(theirs)}
                    | dict(zip(("probability", "low", "high"), found, strict=True))
                )
    return pd.DataFrame(rows, columns=COLUMNS)


def probability(one: np.ndarray, other: np.ndarray, better: str) -> tuple[float, float, float]:
    """Return the share of pairs in which ``one`` beats ``other``, and its 95 % interval.

    one, other: a metric's values over seeds, 1-D; better: ``max`` or ``min``. Ties count half, so
    it is the Mann-Whitney U statistic over the number of pairs. The interval is Clopper's and
    Pearson's for as many trials as the side with fewer seeds has: U's variance is at most such a
    share's, whatever the distributions (Birnbaum and Klose 1957). So it needs six
    seeds of each to leave 0.5 out.
    """
    sign = 1 if better == "max" else -1
    ranked = np.sort(sign * other)
    worse = np.searchsorted(ranked, sign * one, "left")
    no_better = np.searchsorted(ranked, sign * one, "right")
    share = float((worse + no_better).sum() / 2 / len(one) / len(other))
    trials = min(len(one), len(other))
    wins = share * trials
    low = 0.0 if wins <= 0 else beta_quantile(0.025, wins, trials - wins + 1)
    high = 1.0 if wins >= trials else beta_quantile(0.975, wins + 1, trials - wins)
    return share, low, high


def _seeds(group: pd.DataFrame) -> Iterator[tuple[tuple[str, float], np.ndarray]]:
    """Yield each model and rate with two counted values or more and no other seeds, and these."""
    for found, part in group.groupby(["model", "rate"], sort=True):
        model, rate = str(found[0]), float(part["rate"].iloc[0])
        values = part["counted"].dropna().to_numpy(float)
        if len(values) >= 2 and not (part["status"] == "unmeasured").any():
            yield (model, rate), values
