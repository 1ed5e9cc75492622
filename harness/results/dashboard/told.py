"""Build what the page says of effects: shares, interactions, and what the cells cannot tell."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from harness.cell import FP32
from harness.results.counted import RECIPE, competitors, finite
from harness.results.dashboard.text import plain

ROUNDS = 5  # trainings of each recipe that a race is given
FRESH = 1 / 3  # of its time that it keeps for fresh seeds, at the most
DEVICES = (" --device cpu", " --device cuda")  # in the command of a cell for which one was asked
BEYOND = 0.05  # the p below which an interaction is called one


def effects(frame: pd.DataFrame, metrics: dict[str, str]) -> dict[str, Any]:
    """Return each topic's shares of variance by axis and its interactions, as the page shows them.

    metrics: the primary metric by topic; others are left out.
    """
    own = frame[frame["metric"] == frame["topic"].map(metrics)]
    shares: list[dict[str, Any]] = []
    for topic, part in own[own["kind"] == "share"].groupby("topic", sort=True):
        rows = plain(part)
        notes: dict[str, list[str]] = {}
        for row in rows:
            if row["note"]:
                notes.setdefault(row["note"], []).append(row["axis"])
        shares.append(
            {"topic": topic, "metric": metrics[str(topic)], "n": rows[0]["n"]}
            | {"values": {row["axis"]: row for row in rows}}
            | {"notes": [f"{', '.join(axes)}: {note}" for note, axes in notes.items()]}
        )
    crossed = own[own["kind"] == "interaction"]
    known = crossed[crossed["p"].notna()].sort_values("p", kind="stable")
    unknown = [
        f"{topic}: {', '.join(part['axis'] + ' and ' + part['across'])}"
        for topic, part in crossed[crossed["p"].isna()].groupby("topic", sort=True)
    ]
    chosen = dict.fromkeys(a for a in own["axis"] if a == "precision" or a.startswith("set."))
    axes = ["model", "loss", "schedule", "parallel", *chosen, "seed", "residual"]
    return {
        "axes": axes,
        "shares": shares,
        "interactions": plain(known),
        "unknown": unknown,
        "beyond": BEYOND,
    }


def cannot(
    group: pd.DataFrame, shares: pd.DataFrame, best: dict[str, Any] | None, topics: Iterable[str]
) -> dict[str, Any] | None:
    """Return what a topic's cells cannot tell (``said``) and, as ``race`` does, what can; or None.

    group: the topic's cells; shares: the effects of its primary metric; best: its leader; topics:
    the names of all.
    """
    if best is None:
        return None
    said = []
    counts = best["counts"]
    judged = sum(counts.get(name, 0) for name in ("best", "tied", "worse", "only"))
    if not judged:
        why = "each has one seed" if counts.get("one seed") else "none has trained"
        said.append(f"which recipe is best: {why}")
    elif counts.get("tied", 0) > 1:
        said.append(f"which of {counts['tied']} recipes is best")
    if judged and counts.get("one seed"):
        said.append(f"how good the {counts['one seed']} recipes of one seed are")
    if unlike := _of_other_seeds(group):
        said.append(f"whether recipes differ or their seeds: {unlike}")
    axes = shares[shares["kind"] == "share"].set_index("axis")["df"].to_dict()
    if aliased := [name for name in ("loss", "schedule") if axes.get(name) == 0]:
        said.append(
            f"the effect of {' or '.join(aliased)} alone: the design ties it to other axes'"
        )
    elif axes.get("residual") == 0:
        said.append("effects from luck: it has as many parameters as cells")
    return {"said": "; nor ".join(said)} | race(group, topics) if said else None


def _of_other_seeds(group: pd.DataFrame) -> str:
    """Say how many recipes of several seeds have others than most of them; empty if none has."""
    if "seed" not in group:
        return ""
    own = competitors(group).groupby(RECIPE)["seed"].agg(frozenset)
    several = own[own.map(len) > 1]
    if several.nunique() < 2:
        return ""
    unlike = (several != several.value_counts().index[0]).sum()
    return f"{unlike} of {len(several)} recipes have others than the rest"


def race(group: pd.DataFrame, topics: Iterable[str]) -> dict[str, Any]:
    """Return the command that tells a topic's recipes apart, and how long it is given.

    The minutes are those of ROUNDS trainings of each recipe (every model, loss, schedule,
    precision and swept value that the cells have, also what would be skipped) at their mean wall
    time, at as many places as they had, and of fresh seeds. A place is a core, or one of those that
    share a GPU; records do not tell how many GPUs there were, so one is counted. Empty where no
    time is known, or there is nothing to race with.
    """
    tried = group[group["status"].isin(["done", "diverged"])]
    axes = {"model", "loss", "schedule", "precision", "settings"} & set(tried)
    arms = math.prod(int(tried[axis].nunique()) for axis in axes)
    seconds = tried["cost.wall_s"].mean() if "cost.wall_s" in tried else math.nan
    if arms < 2 or not math.isfinite(seconds):
        return {}
    cores = np.nanmax(finite(tried, "environment.cores"), initial=1)
    per_gpu = int(np.nanmax(finite(tried, "environment.per_gpu"), initial=0))
    places = min(cores, per_gpu or cores)
    minutes = max(1, math.ceil(ROUNDS * arms * seconds / 60 / places / (1 - FRESH)))
    topic = str(group["topic"].iloc[0])
    inside = any(topic in name and topic != name for name in topics)  # gan is in style_gan
    chosen = f"'[{topic}/'" if inside else topic
    command = f"decathlon run --profile race --minutes {minutes} -k {chosen}"
    command += _axes(tried) + _precisions(tried) + _set(tried)
    command += f" --per-gpu {per_gpu}" if per_gpu > 1 else ""
    commands = list(tried.get("command", [""]))
    command += next((one for one in DEVICES if all(one in text for text in commands)), "")
    return {"command": command, "minutes": minutes, "rounds": ROUNDS, "recipes": arms}


def _axes(cells: pd.DataFrame) -> str:
    """Return the models, losses and schedules as a command line has them, a space before each."""
    found = ""
    for axis in ("model", "loss", "schedule"):
        values = list(dict.fromkeys(cells[axis])) if axis in cells else []
        found += f" --{axis} {','.join(values)}" if values else ""
    return found


def _precisions(cells: pd.DataFrame) -> str:
    """Return the precisions as a command line has them; nothing where all is fp32."""
    found = sorted(set(cells["precision"])) if "precision" in cells else [FP32]
    return "" if found == [FP32] else f" --precision {','.join(found)}"


def _set(cells: pd.DataFrame) -> str:
    """Return a topic's settings as a command line has them, a space before each."""
    found = ""
    for column in [name for name in cells if str(name).startswith("set.")]:
        values = sorted(cells[column].dropna().unique())
        texts = [f"{v:.15g}" if isinstance(v, float) else str(v) for v in values]
        told = f"{cells['topic'].iloc[0]}.{str(column).removeprefix('set.')}={','.join(texts)}"
        found += f" --set {shlex.quote(told)}" if texts else ""
    return found
