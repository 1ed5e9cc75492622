"""Find a topic's best configuration, the cheapest nearly as good, and the Pareto front."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.results.dashboard.text import finite, plain

AXES = ["model", "loss", "schedule", "parallel"]
NEAR = 0.01


def primary(group: pd.DataFrame) -> tuple[str, str]:
    """Return a topic's primary metric ("" if no cell names one) and its direction, max or min."""
    names = group["primary"].dropna()
    names = names[names != ""]
    if names.empty:
        return "", "max"
    name = str(names.iloc[0])
    column = f"direction.{name}"
    known = group[column].dropna() if column in group else pd.Series(dtype=object)
    return name, "min" if len(known) and str(known.iloc[0]) == "min" else "max"


def ranked(cells: pd.DataFrame) -> pd.DataFrame:
    """Sort cells by topic and primary metric, the best first, and add the columns the page needs.

    quality: the primary metric, NaN unless the cell is ``done``; untrained: the baseline's; metric:
    its name; order: the cell's number in its topic, from 0. Cells without a finite quality come
    last.
    """
    parts = []
    for _, group in cells.groupby("topic", sort=True):
        name, better = primary(group)
        part = group.assign(metric=name)
        for column, prefix in (("quality", "metric"), ("untrained", "baseline")):
            part[column] = _finite(group, f"{prefix}.{name}")
        part.loc[part["status"] != "done", "quality"] = np.nan
        part = part.sort_values("quality", ascending=better == "min", kind="stable")
        parts.append(part.assign(order=range(len(part))))
    if not parts:
        return cells.assign(metric="", quality=np.nan, untrained=np.nan, order=0)
    return pd.concat(parts, ignore_index=True)


def configurations(summary: pd.DataFrame, topic: str, metric: str, better: str) -> pd.DataFrame:
    """Return a topic's rows of the summary for its primary metric, the best mean first."""
    own = summary[(summary["topic"] == topic) & (summary["metric"] == metric)]
    own = own[np.isfinite(own["mean"].to_numpy(float))]
    return own.sort_values("mean", ascending=better == "min", kind="stable")


def best(own: pd.DataFrame, better: str) -> dict[str, Any] | None:
    """Return the first of sorted configurations, and under ``near`` the cheapest nearly as good.

    Nearly: within 1 % of the best mean, or within its 95 % interval if that is wider. ``times``:
    how many times less training time it takes; ``near`` is None if the best is the cheapest.
    Returns None if there are no configurations.
    """
    if own.empty:
        return None
    numbers = ["n", "n_diverged", "mean", "sd", "ci_low", "ci_high", "baseline", "train_s"]
    rows = own[[*AXES, *numbers]]
    first = plain(rows.head(1))[0]
    sign = 1 if better == "min" else -1
    bound = first["ci_high"] if better == "min" else first["ci_low"]
    margin = NEAR * abs(first["mean"])
    if bound is not None:
        margin = max(margin, sign * (bound - first["mean"]))
    close = rows[sign * (rows["mean"] - first["mean"]) <= margin]
    close = close[close["train_s"].notna()].sort_values("train_s", kind="stable")
    near = plain(close.head(1))[0] if len(close) else None
    if near is None or not finite(first["train_s"]) or near["train_s"] >= first["train_s"]:
        return {**first, "near": None}
    near["times"] = first["train_s"] / near["train_s"] if near["train_s"] > 0 else None
    return {**first, "near": near}


def by_model(own: pd.DataFrame, better: str) -> list[dict[str, Any]]:
    """Return ``best`` of each model's configurations, the best model first."""
    return [
        answer for _, part in own.groupby("model", sort=False) if (answer := best(part, better))
    ]


def pareto(train_s: np.ndarray, values: np.ndarray, better: str) -> np.ndarray:
    """Return a boolean mask of the Pareto front of quality against training time.

    On it are the points for which none as cheap is as good; of equal points, the first.
    """
    sign = 1.0 if better == "min" else -1.0
    order = np.lexsort((sign * values, train_s))
    sorted_values = sign * values[order]
    before = np.concatenate([[np.inf], np.minimum.accumulate(sorted_values)[:-1]])
    front = np.zeros(len(values), dtype=bool)
    front[order] = sorted_values < before
    return front


def pairs(group: pd.DataFrame) -> pd.DataFrame:
    """Join each finished parallel cell with the single-process cell of the same other axes.

    Columns ``*_single`` hold the single cell's quality, samples_per_s, peak_mb and train_s.
    """
    done = group[group["status"] == "done"]
    taken = {
        "quality": "quality",
        "cost.samples_per_s": "samples_per_s",
        "cost.peak_memory_mb": "peak_mb",
        "cost.train_s": "train_s",
        "parity.difference": "difference",
    }
    key = ["model", "loss", "schedule", "seed"]
    table = done[[*key, "id", "parallel", "world_size"]].assign(
        **{short: _finite(done, name) for name, short in taken.items()}
    )
    alone = table[table["parallel"] == "single"].drop_duplicates(key)
    alone = alone[[*key, "quality", "samples_per_s", "peak_mb", "train_s"]]
    others = table[table["parallel"] != "single"]
    return others.merge(alone, on=key, suffixes=("", "_single"))


def _finite(frame: pd.DataFrame, column: str) -> pd.Series:
    """Return a column as float64, with NaN for what is missing or not finite."""
    if column not in frame:
        return pd.Series(np.nan, frame.index)
    values = pd.to_numeric(frame[column], errors="coerce").astype("float64")
    return values.where(np.isfinite(values))
