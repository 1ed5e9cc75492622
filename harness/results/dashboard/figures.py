"""Build a topic's charts as Plotly traces: plain dicts, with all text escaped.

A figure has a title, a note, and choices for its selector; each choice has traces and a layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.cell import FP32
from harness.results.dashboard import answers
from harness.results.dashboard.text import escaped, number, rounded

# Paul Tol's "bright", which colour-blind readers tell apart on light and on dark paper
COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377")
DASHES = ("solid", "dash", "dot")
SYMBOLS = ("circle", "diamond", "square", "cross", "triangle-up", "x")
CURVES = 12
POINTS = 1500

Figure = dict[str, Any]
Lines = Mapping[str, pd.DataFrame]


def heat(own: pd.DataFrame, metric: str, better: str) -> Figure:
    """Build a heat map of mean quality by loss and schedule, one choice per model.

    own: the topic's rows of the summary, as ``answers.configurations`` returns them. All models
    share the axes.
    """
    losses, schedules = sorted(set(own["loss"])), sorted(set(own["schedule"]))
    choices = []
    for model in dict.fromkeys(own["model"]):
        cells: dict[tuple[str, str], tuple[float, str, bool]] = {}
        part = own[own["model"] == model]
        for (loss, schedule), here in part.groupby(["loss", "schedule"]):
            mean = float(np.average(here["mean"], weights=here["n"].clip(lower=1)))
            lines = [
                f"{escaped(' '.join(_told(row)))}: {number(row.mean)} "
                f"({row.trained}/{row.n} trained"
                + (f", sd {number(row.sd)})" if row.n > 1 else ")")
                for row in here.head(10).itertuples()
            ]
            leads = bool(here["standing"].isin(answers.LEADING).any())
            cells[str(loss), str(schedule)] = mean, "<br>".join(lines), leads
        grid = [[cells.get((loss, schedule)) for schedule in schedules] for loss in losses]
        means = np.array([mean for mean, _, _ in cells.values()])
        low, high = np.quantile(means, (0.0, 0.9) if better == "min" else (0.1, 1.0))
        trace = {
            "type": "heatmap",
            "x": [escaped(name) for name in schedules],
            "y": [escaped(name) for name in losses],
            "z": [rounded([cell[0] if cell else None for cell in row]) for row in grid],
            "text": [
                [f"{cell[0]:.3g}" + (" ★" if cell[2] else "") if cell else "" for cell in row]
                for row in grid
            ],
            "customdata": [[cell[1] if cell else "" for cell in row] for row in grid],
            "texttemplate": "%{text}",
            "hovertemplate": "<b>%{y}, %{x}</b><br>%{customdata}<extra></extra>",
            "colorscale": "Viridis",
            "reversescale": better == "min",
            "hoverongaps": False,
            "xgap": 2,
            "ygap": 2,
            "colorbar": {"title": {"text": escaped(metric), "side": "right"}, "thickness": 12},
        }
        if low < high:
            trace |= {"zmin": float(low), "zmax": float(high)}
        choices.append(choice(str(model), [trace]))
    note = (
        f"Mean {metric} over seeds, parallel configurations, precisions and settings; blank: not "
        "run. ★ cannot be told apart from the topic's leader (needs two seeds)."
    )
    return figure(f"{metric} by loss and schedule", "model", choices, note, kind="heat")


def _told(row: Any) -> list[str]:
    """Return what a recipe of the heat map has beside model, loss and schedule."""
    precise = "" if row.precision == FP32 else row.precision
    return [text for text in (row.parallel, precise, row.settings) if text]


def picks(group: pd.DataFrame) -> dict[str, list[tuple[str, str, str]]]:
    """Choose the cells whose curves are shown: (name, cell id, description) by selector label.

    The first of each loss, say, is that which would be chosen. group: as ``answers.ranked`` has it.
    """
    lowest = answers.primary(group)[1] == "min"
    done = group[group["quality"].notna()]
    done = done.sort_values("chosen", ascending=lowest, kind="stable")
    found = {
        f"the first of each {axis}": _named(done.drop_duplicates(axis).sort_values(axis), axis)
        for axis in ("loss", "schedule", "model")
    }
    found["diverged cells"] = _named(group[group["status"] == "diverged"], "id")
    return {label: lines[:CURVES] for label, lines in found.items() if lines}


def curves(chosen: Mapping[str, Sequence[tuple[str, str, str]]], lines: Lines) -> list[Figure]:
    """Build line charts by training step: loss, learning rate, and what the batches measured."""
    notes = {
        "loss": "Losses of different families have different scales: compare shapes, not heights.",
        "lr": "The first player's rate. Adaptive schedules hold it and adapt each step instead.",
    }
    known = {"loss": "Training loss by step", "lr": "Learning rate by step"}
    shown = {cell for items in chosen.values() for _, cell, _ in items if cell in lines}
    measured = {
        column: f"{column.replace('_', ' ').capitalize()} by step"
        for column in sorted({str(c) for cell in shown for c in lines[cell]} - {"id", "step"})
        if column not in known and any(lines[cell][column].notna().any() for cell in shown)
    }
    titles = measured | known
    found = []
    for column, title in titles.items():
        choices = []
        for label, items in chosen.items():
            data: list[dict[str, Any]] = []
            for name, cell, what in items:
                if cell not in lines or not len(lines[cell]):
                    continue
                line = lines[cell]
                mode = "lines" if len(line) > 20 else "lines+markers"
                data.append(by_step(line, column, name, what, mode, len(data)))
            if data:
                layout = {
                    "xaxis": {"title": {"text": "step"}},
                    "yaxis": log(data, "y") if column in known else {},
                }
                choices.append(choice(label, data, layout))
        found.append(figure(title, "show", choices, notes.get(column, "Seen while training.")))
    return found


def by_step(
    line: pd.DataFrame, column: str, name: str, what: str, mode: str, index: int
) -> dict[str, Any]:
    """Return the trace of a column of one cell's rows over their ``step``: the index-th line."""
    return {
        "type": "scatter",
        "mode": mode,
        "name": escaped(name),
        "meta": escaped(what),
        "x": rounded(line["step"], 8),
        "y": rounded(line[column]),
        "line": style(index),
        "hovertemplate": "%{y:.4g} at step %{x}<br>%{meta}<extra></extra>",
    }


def against_time(own: pd.DataFrame, metric: str, better: str) -> Figure:
    """Build a scatter of quality against training seconds, with the Pareto front marked.

    One point per configuration; the worst beyond POINTS are left out, as the note says.
    """
    timed = own[own["train_s"].notna() & (own["trained"] > 0)]
    seconds, chosen = (timed[name].to_numpy(float) for name in ("train_s", "chosen"))
    front = answers.pareto(seconds, chosen, better)
    timed = timed.assign(front=front)
    shown = timed[timed["front"] | (np.arange(len(timed)) < POINTS)]
    data = []
    for index, (model, part) in enumerate(shown.groupby("model", sort=True)):
        marker = {"size": 8, "opacity": 0.8, "symbol": SYMBOLS[index % len(SYMBOLS)]}
        marker |= {"color": COLOURS[index % len(COLOURS)]}
        data.append(_points(part, "train_s", "mean") | {"name": escaped(model), "marker": marker})
    best = shown[shown["front"]].sort_values("train_s")
    if len(best):
        line = {"shape": "hv", "dash": "dot", "width": 2}
        data.insert(
            0,
            _points(best, "train_s", "mean")
            | {"mode": "lines+markers", "name": "Pareto front", "line": line, "ink": True}
            | {"marker": {"size": 14, "symbol": "circle-open", "line": {"width": 2}}},
        )
    layout = {
        "xaxis": {"title": {"text": "training seconds"}, **log(data, "x", 5.0)},
        "yaxis": {"title": {"text": escaped(metric)}, **log(data, "y", 20.0)},
    }
    left = len(timed) - len(shown)
    note = "Ringed: chosen before all that are as cheap. Seconds as in the table of answers. " + (
        f"The {left:,} worst configurations are left out." if left else ""
    )
    choices = [choice("", data, layout)] if data else []
    return figure(f"{metric} against training time", "", choices, note)


def scaling(pairs: pd.DataFrame, metric: str) -> Figure:
    """Build a scatter of each parallel cell against its single-process counterpart.

    pairs: as ``answers.pairs`` returns them. Choices: throughput, quality.
    """
    choices = []
    for column, label in (("samples_per_s", "throughput, samples/s"), ("quality", metric)):
        known = pairs.dropna(subset=[column, f"{column}_plain"]).head(POINTS)
        if known.empty:
            continue
        data = []
        for index, (name, part) in enumerate(known.groupby("parallel", sort=True)):
            trace = _points(part, f"{column}_plain", column) | {"name": escaped(name)}
            trace["text"] = [escaped(cell) for cell in part["id"]]
            colour = COLOURS[index % len(COLOURS)]
            symbol = SYMBOLS[index % len(SYMBOLS)]
            trace["marker"] = {"size": 9, "opacity": 0.8, "color": colour, "symbol": symbol}
            data.append(trace)
        ends = known[[column, f"{column}_plain"]].to_numpy(float)
        both = rounded([ends.min(), ends.max()])
        same = {"x": both, "y": both, "mode": "lines", "name": "equal to single", "ink": True}
        data.append(
            {"type": "scatter", "hoverinfo": "skip", "line": {"dash": "dot", "width": 1}} | same
        )
        wide = {"type": "log"} if ends.min() > 0 and ends.max() / ends.min() > 20 else {}
        layout = {
            "xaxis": {"title": {"text": f"single: {escaped(label)}"}, **wide},
            "yaxis": {"title": {"text": escaped(label)}, **wide},
        }
        choices.append(choice(label, data, layout))
    note = "One point a cell, beside single's of the same model, loss, schedule and seed."
    return figure("Parallel configurations against single", "compare", choices, note)


def _points(frame: pd.DataFrame, x: str, y: str) -> dict[str, Any]:
    """Return a scatter trace of column y over column x, each point labelled with its axes."""
    named = frame[[*answers.AXES, "settings"]].astype(str).replace({"precision": {FP32: ""}})
    where = (", ".join(filter(None, row)) for row in named.itertuples(index=False))
    return {
        "type": "scatter",
        "mode": "markers",
        "x": rounded(frame[x]),
        "y": rounded(frame[y]),
        "text": [escaped(text) for text in where],
        "hovertemplate": "%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
    }


def _named(cells: pd.DataFrame, axis: str) -> list[tuple[str, str, str]]:
    """Return (name, cell id, description) of the first cells, named by their value of ``axis``."""
    return [
        (str(row[axis]).split("/", 1)[-1], str(row["id"]), f"{row['id']}: {number(row['quality'])}")
        for row in cells[list(dict.fromkeys([axis, "id", "quality"]))]
        .head(CURVES)
        .to_dict("records")
    ]


def style(index: int) -> dict[str, Any]:
    """Return the style of the index-th line: colours change first, then dashes."""
    dash = DASHES[index // len(COLOURS) % len(DASHES)]
    return {"color": COLOURS[index % len(COLOURS)], "dash": dash, "width": 2}


def log(data: Sequence[Mapping[str, Any]], axis: str, ratio: float = 10.0) -> dict[str, Any]:
    """Return the layout of a log axis if the values are far apart and none is negative, else {}.

    An axis of over five decades shows its upper four and a half.
    """
    values = [v for trace in data for v in trace[axis] if v is not None]
    above = [v for v in values if v > 0]
    if not above or min(values) < 0 or max(above) < ratio * min(above):
        return {}
    found: dict[str, Any] = {"type": "log", "dtick": "D1" if max(above) < 20 * min(above) else 1}
    if min(above) < 1e-5 * max(above):
        top = float(np.log10(max(above)))
        found["range"] = [top - 4.5, top + 0.2]
    return found


def choice(label: str, data: list[dict[str, Any]], layout: dict | None = None) -> dict[str, Any]:
    """Return one choice of a figure's selector."""
    return {"label": label, "data": data, "layout": layout or {}}


def figure(title: str, selector: str, choices: list, note: str, kind: str = "") -> Figure:
    """Return a figure with a selector of its choices."""
    return {"title": title, "selector": selector, "choices": choices, "note": note, "kind": kind}
