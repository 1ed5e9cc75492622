"""Draw validation during training, cell by cell: a figure as in ``figures``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from harness.results.dashboard import figures
from harness.results.dashboard.text import number, rounded


def curves(
    chosen: Mapping[str, Sequence[tuple[str, str, str]]],
    looks: pd.DataFrame | None,
    group: pd.DataFrame,
    metric: str,
) -> figures.Figure:
    """Build a line of the validation metric by step for each chosen cell, and one at the target.

    chosen: as ``figures.picks`` returns them. looks: as ``target.held_out`` returns them. group:
    the topic's cells, with their ``evaluation.target``.
    """
    choices = []
    known = looks is not None and metric in looks
    lines = {str(k): v for k, v in looks.groupby("id")} if known and looks is not None else {}
    targets = (
        group["evaluation.target"].dropna()
        if "evaluation.target" in group
        else pd.Series(dtype=float)
    )
    for label, items in chosen.items():
        data: list[dict[str, Any]] = []
        for name, cell, what in items:
            line = lines.get(cell)
            if line is None or line[metric].isna().all():
                continue
            data.append(figures.by_step(line, metric, name, what, "lines+markers", len(data)))
        if not data:
            continue
        layout = {"xaxis": {"title": {"text": "step"}}, "yaxis": figures.log(data, "y")}
        if len(targets):
            ends = [min(x for trace in data for x in trace["x"])]
            ends += [max(x for trace in data for x in trace["x"])]
            data.append(
                {"type": "scatter", "mode": "lines", "name": "target", "ink": True}
                | {"x": ends, "y": rounded([targets.iloc[0]] * 2), "hoverinfo": "skip"}
                | {"line": {"dash": "dot", "width": 1}}
            )
        choices.append(figures.choice(label, data, layout))
    note = "On data that was not trained on; its time is not counted as training. "
    if len(targets):
        note += (
            f"Target: {number(targets.iloc[0])}: the topic's own or 90 % of what the best wins "
            "over the untrained network; cells.csv has steps_to_target and seconds_to_target."
        )
    return figures.figure(f"Validation {metric} by step", "show", choices, note)
