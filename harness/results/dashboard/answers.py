"""Find what leads a topic, what cannot be told from it, the cheapest of those, the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.cell import FP32
from harness.results.counted import current, shares_gpu
from harness.results.dashboard.text import finite, plain

AXES = ["model", "loss", "schedule", "parallel", "precision"]
NEAR = 0.01
UNMEASURED = "unmeasured"  # the standing of a recipe of which a training has no finite value
APART = 2  # times a model's median seconds from which a recipe has its own
LEADING = ["best", "tied", "only", "leads", "tied best", "undecided"]  # the latter of races


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

    quality: the primary metric, NaN unless the cell is ``done`` and not outdated; chosen: what it
    is chosen by, the metric on validation data where that is known; untrained: the baseline's;
    metric: its name; order: the cell's number in its topic, from 0. Cells without a finite quality
    come last.
    """
    parts = []
    for _, group in cells.groupby("topic", sort=True):
        name, better = primary(group)
        part = group.assign(metric=name, settings=_settings(group))
        for column, prefix in (("quality", "metric"), ("untrained", "baseline")):
            part[column] = _finite(group, f"{prefix}.{name}")
        part.loc[(part["status"] != "done") | ~current(part), "quality"] = np.nan
        done = part["quality"].notna()
        validated = _finite(group, f"validation.{name}")
        part["chosen"] = (validated if validated[done].notna().all() else part["quality"])[done]
        part = part.sort_values("quality", ascending=better == "min", kind="stable")
        parts.append(part.assign(order=range(len(part))))
    if not parts:
        none = dict.fromkeys(("quality", "chosen", "untrained"), np.nan)
        return cells.assign(metric="", settings="", order=0, **none)
    return pd.concat(parts, ignore_index=True)


def configurations(summary: pd.DataFrame, topic: str, metric: str, better: str) -> pd.DataFrame:
    """Return a topic's recipes, its rows of the summary for its primary metric, leader first.

    Sorted by ``chosen``, the mean that recipes are chosen by (on validation data where the topic
    has it); of equals the cheapest comes first, and what never trained last. train_s is the median
    of those of the same model, processes, precision and settings, since cells are timed while
    others train; a recipe's own where it is APART times that or more, or as much less.
    """
    own = summary[(summary["topic"] == topic) & (summary["metric"] == metric)]
    own = own[np.isfinite(own["mean"].to_numpy(float))]
    chosen = own["validation"].where(own["chosen_by"] == "validation", own["mean"])
    own = own.assign(chosen=chosen, least=own["trained"] == 0, settings=_settings(own))
    own["train_s"] = seconds(own)
    ascending = [True, better == "min", True]
    return own.sort_values(["least", "chosen", "train_s"], ascending=ascending, kind="stable")


def seconds(own: pd.DataFrame) -> pd.Series:
    """Return the training seconds of recipes, as ``configurations`` says."""
    alike = own.groupby(["model", "parallel", "precision", "settings"], dropna=False)
    median = alike["train_s"].transform("median")
    times = own["train_s"] / median
    return median.where(times.between(1 / APART, APART, inclusive="neither"), own["train_s"])


def best(own: pd.DataFrame, better: str) -> dict[str, Any] | None:
    """Return the leader of sorted recipes, what cannot be told from it, and the cheapest of those.

    The leader is the first of those that are best or tied, or left in their race, or the first of
    all where no recipe has two seeds. tied: the names of what cannot be told apart from it, itself
    included; equal: how many have the very same ``chosen``; counts: recipes by standing. ``near``:
    the one that trains fastest of those tied (of one seed each, of those within 1 %), None if that
    is the leader; ``times``: how many times less training time it takes. None if there are no
    recipes that have a standing and are measured.
    """
    own = own[~own["standing"].isin(["", UNMEASURED])]
    if own.empty:
        return None
    able = own[own["standing"].isin(LEADING)]
    known = len(able) > 0
    lead = (able if known else own).head(1)
    first, value = plain(lead)[0], float(lead["chosen"].iloc[0])
    alike = own[(own["chosen"] - value).abs() <= NEAR * abs(value)]
    close = able if known or first["standing"] != "one seed" else alike
    found = {
        **first,
        "tied": [recipe(row) for row in plain(able)],
        "equal": int((own["chosen"] == value).sum()),
        "counts": own["standing"].value_counts().to_dict(),
        "near": None,
    }
    timed = close[close["train_s"].notna()].sort_values("train_s", kind="stable")
    if timed.empty or not finite(first["train_s"]):
        return found
    near = plain(timed.head(1))[0]
    if near["train_s"] < first["train_s"]:
        near["times"] = first["train_s"] / near["train_s"] if near["train_s"] > 0 else None
        found["near"] = near
    return found


def recipe(row: Mapping[str, Any]) -> str:
    """Name a recipe: ``vgg11 with ce, cosine``, and where it is not single, not at x1
    or has settings of its own, that too."""
    more = "" if row["parallel"] == "single" else f", {row['parallel']}"
    precise = row.get("precision", FP32)
    more += "" if precise == FP32 else f", {precise}"
    rate = "" if row["rate"] == 1 else f", rate x{row['rate']:g}"
    settings = f", {row['settings']}" if row.get("settings") else ""
    return f"{row['model']} with {row['loss']}, {row['schedule']}{more}{rate}{settings}"


def _settings(frame: pd.DataFrame) -> pd.Series:
    """Return the swept settings of rows, empty where they have none."""
    none = pd.Series("", frame.index)
    return frame["settings"].fillna("") if "settings" in frame else none


def by_model(own: pd.DataFrame, better: str) -> list[dict[str, Any]]:
    """Return ``best`` of each model's recipes, the best model first."""
    return [
        answer for _, part in own.groupby("model", sort=False) if (answer := best(part, better))
    ]


def front(own: pd.DataFrame, better: str) -> list[dict[str, Any]]:
    """Return the recipes for which none as cheap is chosen before them, the cheapest first.

    Those that beat their untrained baseline, or have none.
    """
    sign = 1 if better == "max" else -1
    learnt = ~(sign * (own["mean"] - own["baseline"]) <= 0)
    known = own["train_s"].notna() & own["chosen"].notna()
    timed = own[known & (own["trained"] > 0) & learnt]
    on = pareto(timed["train_s"].to_numpy(float), timed["chosen"].to_numpy(float), better)
    rows = plain(timed[on].sort_values("train_s", kind="stable"))
    return [row | {"name": recipe(row)} for row in rows]


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


def pairs(group: pd.DataFrame, axis: str, plain: str) -> pd.DataFrame:
    """Join each finished cell with the one that differs from it in having ``plain`` on an axis.

    axis: parallel or precision; plain: single, or fp32. Columns ``*_plain`` hold that cell's
    quality, samples_per_s, peak_mb and train_s. A cell's cost is not told beside that of
    one that trained in another number of them at once (``population``), nor the times of what
    shared a GPU.
    """
    done = group[group["status"] == "done"]
    taken = {
        "quality": "quality",
        "cost.samples_per_s": "samples_per_s",
        "cost.peak_memory_mb": "peak_mb",
        "cost.train_s": "train_s",
        "parity.difference": "difference",
    }
    key = [name for name in (*AXES, "settings", "seed") if name != axis]
    table = done[[*key, "id", axis, "world_size", "population"]].assign(
        **{short: _finite(done, name) for name, short in taken.items()}
    )
    times = ["samples_per_s", "train_s"]
    table.loc[shares_gpu(done), times] = np.nan
    alone = table[table[axis] == plain].drop_duplicates(key)
    costs = [*times, "peak_mb"]
    alone = alone[[*key, "quality", "population", *costs]]
    others = table[table[axis] != plain]
    both = others.merge(alone, on=key, suffixes=("", "_plain"))
    apart = both["population"] != both["population_plain"]
    both.loc[apart, [f"{name}_plain" for name in costs]] = np.nan
    return both


def _finite(frame: pd.DataFrame, column: str) -> pd.Series:
    """Return a column as float64, with NaN for what is missing or not finite."""
    if column not in frame:
        return pd.Series(np.nan, frame.index)
    values = pd.to_numeric(frame[column], errors="coerce").astype("float64")
    return values.where(np.isfinite(values))
