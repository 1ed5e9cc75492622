"""DataFrames -> one HTML page that works offline. Knows no records and imports no torch."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd
from plotly.offline import get_plotlyjs

from harness.dashboard import figures

TABLE_ROWS = 5000
COLUMNS = {
    "id": "cell",
    "status": "status",
    "quality": "quality",
    "cost.wall_s": "wall s",
    "cost.samples_per_s": "samples/s",
    "cost.step_ms": "step ms",
    "cost.peak_memory_mb": "peak MB",
    "checkpoint": "checkpoint",
    "parity.difference": "parity",
    "command": "run it again",
}


def render(
    cells: pd.DataFrame,
    curves: pd.DataFrame,
    summary: pd.DataFrame,
    effects: pd.DataFrame,
    benchmark: pd.DataFrame | None,
    title: str,
) -> str:
    """The page as text. Everything that comes from the frames is escaped.

    cells, curves, summary as ``tables`` makes them, effects as ``effects``; benchmark is
    pytest-benchmark's JSON, normalised, or None. Large runs show the best 5,000 cells.
    """
    cells = _with_primary(cells)
    topics = [
        _topic(name, group, summary, curves) for name, group in cells.groupby("topic", sort=True)
    ]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    here = files(__package__)
    template = environment.from_string((here / "page.html.j2").read_text("utf-8"))
    return template.render(
        title=title,
        plotly=get_plotlyjs(),
        style=(here / "style.css").read_text("utf-8"),
        script=(here / "script.js").read_text("utf-8"),
        figures=_for_script({t["name"]: t["figures"] for t in topics}),
        topics=topics,
        counts=cells["status"].value_counts().to_dict(),
        checkpoints=_checks(cells),
        skips=_grouped(cells[cells["status"] == "skipped"]),
        failures=_rows(cells[cells["status"].isin(["failed", "timeout"])].head(50)),
        effects=_plain(effects.head(200)),
        benchmark=_plain(figures.throughput(benchmark)),
        columns=COLUMNS,
        rows=_rows(cells[cells["status"] != "skipped"].head(TABLE_ROWS)),
        left_out=max(0, int((cells["status"] != "skipped").sum()) - TABLE_ROWS),
    )


def _with_primary(cells: pd.DataFrame) -> pd.DataFrame:
    """With each topic's primary metric as ``quality``, the best first."""
    parts = []
    for _, group in cells.groupby("topic", sort=True):
        name, better = figures.primary(group)
        values = group.get(f"metric.{name}", pd.Series(float("nan"), group.index))
        part = group.assign(quality=values)
        parts.append(part.sort_values("quality", ascending=better == "min"))
    return pd.concat(parts) if parts else cells.assign(quality=[])


def _topic(name: Any, group: pd.DataFrame, summary: pd.DataFrame, curves: pd.DataFrame) -> dict:
    metric, better = figures.primary(group)
    own = summary[(summary["topic"] == name) & (summary["metric"] == metric)]
    own = own.sort_values("mean", ascending=better == "min")
    return {
        "name": str(name),
        "metric": metric,
        "better": better,
        "best": _plain(own.head(5)),
        "baseline": float(group.get(f"baseline.{metric}", pd.Series(dtype=float)).mean()),
        "figures": figures.topic(group, own, curves, metric, better),
    }


def _checks(cells: pd.DataFrame) -> list[dict]:
    found = []
    for column in ("state_equal", "resume_equal", "metrics_equal"):
        name = f"checkpoint.{column}"
        found.append(_check(cells, name, f"checkpoint {column}"))
    return [*found, _check(cells, "parity.equal", "parity with single")]


def _check(cells: pd.DataFrame, column: str, name: str) -> dict:
    known = cells[cells[column].notna()] if column in cells else cells.head(0)
    holds = known[column].astype(bool) if len(known) else pd.Series(dtype=bool)
    return {"name": name, "yes": int(holds.sum()), "no": list(known["id"][~holds])[:20]}


def _grouped(skipped: pd.DataFrame) -> list[dict]:
    grouped = skipped.groupby(["topic", "reason"])["id"].agg(["size", "first"]).reset_index()
    return _plain(grouped)


def _rows(cells: pd.DataFrame) -> list[dict]:
    rows = _plain(cells)
    for row in rows:
        flags = [v for k, v in row.items() if str(k).startswith("checkpoint.") and "equal" in k]
        known = [bool(v) for v in flags if v is not None]
        row["checkpoint"] = "" if not known else "equal" if all(known) else "NOT equal"
    return rows


def _plain(frame: pd.DataFrame) -> list[dict]:
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _for_script(value: object) -> str:
    """JSON that cannot end its script element."""
    text = json.dumps(value).replace("NaN", "null")
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
