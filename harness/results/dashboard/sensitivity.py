"""Draw how validation depends on each recipe's learning rate: a figure as in ``figures``."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.results.dashboard import figures
from harness.results.dashboard.text import escaped, rounded

RECIPE = ["model", "loss", "schedule"]
LINES = len(figures.COLOURS) * len(figures.DASHES)
NOTE = (
    "Each recipe's trainings at multiples of the topic's own rate, measured on validation data; a "
    "large dot is its best rate, a gap one at which nothing trained. A schedule is shrunk with its "
    "steps, never cut off. A flat line is a recipe that forgives a wrong rate."
)


def curves(trials: pd.DataFrame | None, topic: str, metric: str, better: str) -> figures.Figure:
    """Build a line of validation against the rate for each recipe, a choice per share of the steps.

    trials: the search's trainings, as ``studies.tuning`` writes them; None if there was none. Of a
    topic's recipes, the first 18 are drawn.
    """
    choices = []
    own = pd.DataFrame({"share": []}) if trials is None else trials[_of(trials, topic, metric)]
    for share in sorted({int(share) for share in own["share"]}, reverse=True):
        part = own[own["share"] == share]
        data: list[dict[str, Any]] = []
        for recipe, rows in list(part.groupby(RECIPE))[:LINES]:
            at = rows.groupby("rate")["value"].mean().sort_index()
            if len(at) < 2 or at.isna().all():
                continue
            best = at.idxmin() if better == "min" else at.idxmax()
            model, loss, schedule = recipe
            name = f"{loss}, {schedule}"
            name = name if part["model"].nunique() == 1 else f"{model}: {name}"
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": escaped(name),
                    "x": rounded(list(at.index)),
                    "y": rounded(at),
                    "line": figures.style(len(data)),
                    "marker": {"size": [12 if rate == best else 5 for rate in at.index]},
                    "hovertemplate": "%{y:.4g} at x%{x}<extra>%{fullData.name}</extra>",
                }
            )
        if data:
            layout: dict[str, dict[str, Any]] = {
                "xaxis": {"type": "log", "dtick": 1, "title": {"text": "rate, times the topic's"}},
                "yaxis": {
                    "title": {"text": f"validation {escaped(metric)}"},
                    **figures.log(data, "y"),
                },
            }
            choices.append(figures.choice(_share(share), data, layout))
    return figures.figure(f"Validation {metric} by learning rate", "steps", choices, NOTE)


def _of(trials: pd.DataFrame, topic: str, metric: str) -> pd.Series:
    """Return which trainings are of a topic's models that are judged by a metric."""
    return (trials["topic"] == topic) & (trials["metric"] == metric)


def _share(share: int) -> str:
    """Name the part of the steps that a training of the search took."""
    return "all" if share == 1 else f"1 in {share}"
