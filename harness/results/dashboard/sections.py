"""Build the data of the page's sections: checks, failures, skips, throughput, cells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.cell import FP32
from harness.results.dashboard import answers
from harness.results.dashboard.text import plain, rounded
from harness.results.quantiles import t_quantile

GROUPS = 50
LISTED = 100
NOTES = 20
CHECKS = {
    "state_equal": "checkpoint.state_equal",
    "resume_equal": "checkpoint.resume_equal",
    "metrics_equal": "checkpoint.metrics_equal",
    "parity": "parity.equal",
}
COLUMNS = {
    "id": "cell",
    "status": "status",
    "metric": "metric",
    "quality": "value",
    "untrained": "untrained",
    "cost.train_s": "train s",
    "cost.samples_per_s": "samples/s",
    "cost.step_ms": "step ms",
    "cost.peak_memory_mb": "peak MiB",
    "cost.energy_j": "energy J",
    "checks": "checkpoint",
    "parity.difference": "parity diff.",
    "command": "run it again",
}


def trust(cells: pd.DataFrame) -> dict[str, Any]:
    """Count the cells that pass and fail each check, and give the median cost of a checkpoint.

    bad: failed checks of checkpoints; differ: cells whose training is not single's.
    """
    checks: dict[str, dict[str, Any]] = {}
    for name, column in CHECKS.items():
        known = cells[cells[column].notna()] if column in cells else cells.head(0)
        holds = known[column].astype(bool) if len(known) else pd.Series(dtype=bool)
        failing = known["id"][~holds]
        checks[name] = {"known": len(known), "no": len(failing), "ids": list(failing.head(LISTED))}
    columns = ("checkpoint.bytes", "checkpoint.save_s", "checkpoint.load_s")
    medians = {c.split(".")[1]: float(cells[c].median()) for c in columns if c in cells}
    exact = (
        cells["parity.equal"].notna() & (cells["precision"] == FP32)
        if CHECKS["parity"] in cells
        else slice(0)
    )
    difference = cells["parity.difference"][exact].max() if "parity.difference" in cells else np.nan
    differ = checks["parity"]["no"]
    bad = sum(check["no"] for check in checks.values()) - differ
    audited = checks["state_equal"]["known"]
    counts = {"checks": checks, "bad": bad, "differ": differ, "known": audited}
    return counts | {"difference": difference, **medians}


def grouped(cells: pd.DataFrame) -> dict[str, Any]:
    """Group failed or skipped cells by topic and reason, with counts, shared axes and ids.

    Returns the 50 largest groups, and how many groups are left.
    """
    rows = []
    sizes = cells.groupby(["topic", "reason"]).size().sort_values(ascending=False, kind="stable")
    of = cells.groupby(["topic", "reason"]).groups
    for topic, reason in sizes.index[:GROUPS]:
        part = cells.loc[of[topic, reason]]
        shared = [f"{a} {part[a].iloc[0]}" for a in answers.AXES if part[a].nunique() == 1]
        shared = [text for text in shared if text != f"precision {FP32}"]
        first = part.iloc[0]
        rows.append(
            {"topic": topic, "reason": reason or "no reason given", "count": len(part)}
            | {"shared": ", ".join(shared) or "any", "ids": list(part["id"].head(LISTED))}
            | {"status": first["status"], "traceback": first["traceback"]}
            | {"command": first["command"]}
        )
    return {"count": len(cells), "rows": rows, "left": max(0, len(sizes) - GROUPS)}


def data_notes(cells: pd.DataFrame) -> list[str]:
    """Return each line on how a topic's data was taken once, the first 20 of them."""
    told = cells.get("data_notes", ())
    notes = list(dict.fromkeys(line for note in told for line in note.splitlines() if line.strip()))
    left = len(notes) - NOTES
    return notes[:NOTES] + ([f"and {left} more in cells.csv"] if left > 0 else [])


def untrainable(cells: pd.DataFrame) -> list[tuple[str, str]]:
    """Return each loss that cannot train a topic, and why."""
    if "untrainable" not in cells:
        return []
    known = cells[cells["untrainable"].fillna("") != ""]
    return sorted(set(zip(known["loss"], known["untrainable"], strict=True)))


def diverged(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Return id, reason, step and command of the first 100 diverged cells."""
    return plain(cells[["id", "reason", "diverged_at", "command"]].head(LISTED))


def throughput(benchmark: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return each benchmark's name, times and rates, with the rest of ``extra_info`` as text."""
    rows = []
    for raw in plain(benchmark) if benchmark is not None else []:
        extra = {k.removeprefix("extra_info."): v for k, v in raw.items() if "extra_info." in k}
        row = {k: extra.pop(k, None) for k in ("samples_per_s", "step_ms", "peak_memory_mb")}
        row |= {k: extra.pop(k, None) for k in ("flops_per_step", "share_of_peak")}
        row["share_of_makers_peak"] = extra.pop("share_of_makers_peak", None)
        name = str(raw.get("name"))
        inner = re.search(r"\[(.+)\]$", name)
        row["name"] = inner[1] if inner else name
        if row["step_ms"] is None and raw.get("stats.median") is not None:
            row["step_ms"] = 1e3 * raw["stats.median"]
        row["more"] = ", ".join(f"{k} {v}" for k, v in extra.items() if v is not None)
        rows.append(row)
    return rows


def parity(frame: pd.DataFrame | None) -> dict[str, Any]:
    """Return the parity table: a row per topic and model, a column per parallel configuration.

    why: the reasons for each configuration that is inexact, of all topics; broken: for each that
    should be exact and is not.
    """
    if frame is None:
        return {}
    frame = frame.assign(reason=frame["reason"].fillna(""))
    columns = list(dict.fromkeys(frame["parallel"]))
    rows = []
    for (topic, model), part in frame.groupby(["topic", "model"]):
        found = {row["parallel"]: row for row in plain(part)}
        rows.append({"name": f"{topic}/{model}", "values": [found.get(name) for name in columns]})
    exact = frame["exact"].astype(bool)
    bad = exact & ~frame["equal"].astype("boolean").fillna(True).astype(bool)
    return {
        **{"columns": columns, "rows": rows, "bad": int(bad.sum()), "ranks": frame["ranks"].max()},
        **{"why": _reasons(frame[~exact]), "broken": _reasons(frame[bad])},
    }


def _reasons(frame: pd.DataFrame) -> dict[str, str]:
    """Return the reasons for each parallel configuration that has any."""
    found = {
        str(name): "; ".join(filter(None, part["reason"].unique()))
        for name, part in frame.groupby("parallel", sort=False)
    }
    return {name: reason for name, reason in found.items() if reason}


def scaling(frame: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return the scaling tables, one per model; memory becomes a share of single's."""
    parts = []
    for (topic, model), part in () if frame is None else frame.groupby(["topic", "model"]):
        alone = part.loc[part["parallel"] == "single", "state_mb"]
        part = part.assign(memory=part["state_mb"] / (alone.iloc[0] if len(alone) else np.nan))
        parts.append({"name": f"{topic}/{model}", "rows": part.to_dict("records")})
    return parts


def resharding(frame: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return the resharding tables, one per model: saved configurations by loaded ones."""
    parts = []
    for (topic, model), part in () if frame is None else frame.groupby(["topic", "model"]):
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for row in plain(part):
            found.setdefault(_layout(row, "saved"), {})[_layout(row, "loaded")] = row
        columns = list(dict.fromkeys(name for loaded in found.values() for name in loaded))
        rows = {saved: [loaded.get(name) for name in columns] for saved, loaded in found.items()}
        whole = part["state_equal"] & part["data_equal"]
        parts.append(
            {"name": f"{topic}/{model}", "columns": columns, "rows": rows}
            | {"count": len(part), "bad": int((~whole).sum()), "worst": part["difference"].max()}
        )
    return parts


def _layout(row: dict[str, Any], when: str) -> str:
    """Name a row's configuration and ranks when saved or loaded, such as ``ddp x 2``."""
    return f"{row[f'{when}_under']} x {row[f'{when}_ranks']}"


def cells_table(cells: pd.DataFrame, most: int) -> dict[str, Any]:
    """Return the columns and rows of the page's table of cells, as plain JSON values.

    Energy has a column if that of a cell is known. Of more than ``most`` cells, each topic's best
    are kept, ``most`` at most in all. ``checks``: whether every check that was made holds.
    """
    shown = cells[cells["order"] < np.sort(cells["order"])[most]] if len(cells) > most else cells
    flags = shown[[c for c in CHECKS.values() if c in shown]].astype(object)
    holds = flags.where(flags.notna(), True).astype(bool).all(axis=1)
    checks = holds.map({True: "equal", False: "NOT equal"}).where(flags.notna().any(axis=1), "")
    shown = shown.assign(checks=checks)
    names = dict(COLUMNS)
    if "cost.energy_j" not in shown or shown["cost.energy_j"].isna().all():
        del names["cost.energy_j"]
    columns = [_column(shown, name) for name in names]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return {"columns": list(names.values()), "rows": rows, "left": len(cells) - len(rows)}


def _column(frame: pd.DataFrame, name: str) -> Sequence[Any]:
    """Return a column as rounded numbers or text; all None if the frame lacks it."""
    if name not in frame:
        return [None] * len(frame)
    if pd.api.types.is_numeric_dtype(frame[name]):
        return rounded(frame[name])
    return ["" if v is None or v != v else str(v) for v in frame[name]]


def improvement(found: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return the 100 pairs of models whose probability of improvement is furthest from 0.5."""
    if found is None or not len(found):
        return []
    order = (found["probability"] - 0.5).abs().sort_values(ascending=False, kind="stable").index
    return plain(found.loc[order[:LISTED]])


def transfer(found: pd.DataFrame | None, topic: str) -> dict[str, Any] | None:
    """Return a topic's multi-task gains, means over seeds, the 100 highest first.

    half: of the 95 % interval of delta_m, Student's t over the seeds that have one; None for one.
    """
    own = found[found["topic"] == topic] if found is not None and len(found) else None
    if own is None or own.empty:
        return None
    setting = ["model", "loss", "schedule", "parallel", "precision", "settings"]
    gains = own.pivot_table("gain", setting, "metric", dropna=False, observed=True)
    once = own.drop_duplicates([*setting, "seed"]).assign(done=lambda t: t["status"] == "done")
    whole = once.groupby(setting).agg(
        delta_m=("delta_m", "mean"),
        error=("delta_m", "sem"),
        n=("seed", "nunique"),
        known=("delta_m", "count"),
        trained=("done", "sum"),
    )
    whole["half"] = t_quantile(0.975, whole["known"] - 1) * whole["error"]
    table = whole.join(gains.add_prefix("gain."), how="left").sort_values(
        "delta_m", ascending=False, kind="stable"
    )
    metrics = list(dict.fromkeys(own["metric"]))
    rows = plain(table.reset_index().head(LISTED))
    return {"metrics": metrics, "rows": rows, "left": max(0, len(table) - LISTED)}
