"""Draw what each level of an axis does, as dots with whiskers: a figure as in ``figures``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.results.dashboard import figures
from harness.results.dashboard.text import escaped, rounded

AXES = ("loss", "schedule", "model", "precision")


def dots(effects: pd.DataFrame, metric: str, better: str) -> figures.Figure:
    """Build dots and 95 % whiskers of each level's effect, the best on top, a choice per axis.

    effects: the rows of one topic and metric, as ``effects.effects`` returns them.
    """
    choices = []
    own = effects[(effects["kind"] == "level") & effects["value"].notna()]
    swept = [axis for axis in dict.fromkeys(own["axis"]) if axis.startswith("set.")]
    for axis in [*AXES, *swept]:
        part = own[own["axis"] == axis].sort_values("value", ascending=better == "max")
        if part.empty:
            continue
        value = part["value"].to_numpy(float)
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "markers",
            "x": rounded(part["value"]),
            "y": [escaped(name) for name in part["level"]],
            "text": [f"{n} cells" for n in part["n"]],
            "marker": {"size": 9, "color": figures.COLOURS[0]},
            "hovertemplate": "%{y}: %{x:.4g}<br>%{text}<extra></extra>",
        }
        if np.isfinite(part["low"]).all():
            ends = {"array": part["high"] - value, "arrayminus": value - part["low"]}
            trace["error_x"] = {"type": "data", "symmetric": False, "thickness": 1.5}
            trace["error_x"] |= {name: rounded(end) for name, end in ends.items()}
        layout = {
            "xaxis": {"title": {"text": f"{escaped(metric)}, from the mean"}, "zerolinewidth": 2},
            "yaxis": {"type": "category"},
        }
        choices.append(figures.choice(axis, [trace], layout))
    left = int(own["df"].max()) if len(own) else 0
    note = (
        f"How far each level is from the mean of its axis, other axes equal; "
        f"{'lower' if better == 'min' else 'higher'} is better. "
    )
    note += (
        f"Whiskers: 95 % intervals, each alone, from {left} degrees of freedom, if the axes do not "
        "interact."
        if left
        else "No whiskers: as many parameters as cells, so nothing tells effect from luck."
    )
    return figures.figure(f"What each axis does to {metric}", "axis", choices, note, "dots")
