"""DataFrames -> Plotly figures as plain dicts (data and layout)."""

from __future__ import annotations

from typing import Any

import pandas as pd

CURVES = 14


def primary(group: pd.DataFrame) -> tuple[str, str]:
    """A topic's primary metric and its direction, as ``tables.cells`` has them."""
    names = group["primary"][group["primary"].fillna("") != ""]
    if names.empty:
        return "none", "max"
    name = str(names.iloc[0])
    return name, str(group[f"direction.{name}"].dropna().iloc[0])


def topic(
    group: pd.DataFrame, summary: pd.DataFrame, curves: pd.DataFrame, metric: str, better: str
) -> list[dict[str, Any]]:
    """Heat maps by model, learning curves, learning rates, and quality against time."""
    found = []
    for model, own in summary.groupby("model"):
        grid = own.pivot_table(index="loss", columns="schedule", values="mean", aggfunc="mean")
        heat = {
            "type": "heatmap",
            "z": grid.astype(object).where(grid.notna(), None).values.tolist(),
            "x": list(grid.columns),
            "y": list(grid.index),
            "colorscale": "Viridis",
            "reversescale": better == "min",
            "texttemplate": "%{z:.3f}",
            "hoverongaps": False,
        }
        found.append(_figure(f"{model}: {metric}, loss x schedule", [heat]))
    shown = _shown(group, better)
    for value, label in (("loss", "training loss"), ("lr", "learning rate")):
        lines = []
        for name in shown:
            line = curves[curves["id"] == name]
            lines.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": name.split("/", 1)[1],
                    "x": line["step"].tolist(),
                    "y": line[value].astype(object).where(line[value].notna(), None).tolist(),
                }
            )
        found.append(_figure(f"{label} by step", lines, {"type": "log"}))
    done = group[group["status"] == "done"].head(3000)
    points = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": str(model),
            "x": part["cost.wall_s"].tolist(),
            "y": part[f"metric.{metric}"].tolist(),
            "text": part["id"].tolist(),
        }
        for model, part in done.groupby("model")
        if f"metric.{metric}" in part and "cost.wall_s" in part
    ]
    found.append(_figure(f"{metric} against wall seconds", points, xaxis={"type": "log"}))
    return found


def throughput(benchmark: pd.DataFrame | None) -> pd.DataFrame:
    """Name, median ms and extra_info of each benchmark."""
    if benchmark is None or benchmark.empty:
        return pd.DataFrame()
    extra = [c for c in benchmark.columns if c.startswith("extra_info.")]
    table = benchmark[["name", "stats.median", *extra]].rename(
        columns=lambda c: c.removeprefix("extra_info.").removeprefix("stats.")
    )
    return table.assign(median=1e3 * table["median"]).rename(columns={"median": "median_ms"})


def _shown(group: pd.DataFrame, better: str) -> list[str]:
    """The best cell of each loss and of each schedule, at most CURVES in all."""
    ordered = group[group["status"] == "done"]
    names = [
        str(part["id"].iloc[0])
        for axis in ("loss", "schedule")
        for _, part in ordered.groupby(axis, sort=True)
    ]
    return list(dict.fromkeys(names))[:CURVES]


def _figure(title: str, data: list, yaxis: dict | None = None, xaxis: dict | None = None) -> dict:
    return {"title": title, "data": data, "yaxis": yaxis or {}, "xaxis": xaxis or {}}
