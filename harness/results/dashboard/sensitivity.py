"""Draw how validation depends on each recipe's learning rate: a figure as in ``figures``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.results.dashboard import figures
from harness.results.dashboard.text import escaped, rounded

LINES = len(figures.COLOURS) * len(figures.DASHES)
NOTE = (
    "Each recipe's trainings at multiples of the topic's own rate, measured on validation data; a "
    "large dot is its best rate, a gap one at which nothing trained. A schedule is shrunk with its "
    "steps, never cut off. A flat line is a recipe that forgives a wrong rate."
)


def curves(trials: pd.DataFrame | None, topic: str, metric: str, better: str) -> figures.Figure:
    """Build a line of validation against the rate a recipe, a choice per model and share of steps.

    trials: the search's trainings, as ``studies.tuning`` writes them; None if there was none. Of a
    model's recipes, the first 18 are drawn.
    """
    choices = []
    own = pd.DataFrame() if trials is None else trials[_of(trials, topic, metric)]
    several = len(own) and own["model"].nunique() > 1
    kinds = own.groupby(["model", "share"], sort=False) if len(own) else ()
    for (model, share), part in sorted(kinds, key=lambda kind: (-kind[0][1], kind[0][0])):
        data: list[dict[str, Any]] = []
        for (loss, schedule), rows in list(part.groupby(["loss", "schedule"]))[:LINES]:
            at = rows.groupby("rate")["value"].mean().sort_index()
            if len(at) < 2 or at.isna().all():
                continue
            best = _best(rows, better)
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": escaped(f"{loss}, {schedule}"),
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
            steps = "all steps" if share == 1 else f"1 in {share} steps"
            label = f"{model}, {steps}" if several else steps
            choices.append(figures.choice(label, data, layout))
    return figures.figure(f"Validation {metric} by learning rate", "show", choices, NOTE)


def _of(trials: pd.DataFrame, topic: str, metric: str) -> pd.Series:
    """Return which trainings are of a topic's models that are judged by a metric."""
    return (trials["topic"] == topic) & (trials["metric"] == metric)


def _best(trials: pd.DataFrame, better: str) -> float:
    """Return the rate that the search took: the most trained, the best value, second, nearest 1."""
    trials = trials.assign(value=trials["value"] * (1 if better == "max" else -1))
    rates = trials.groupby("rate")[["value", "second"]].mean().fillna(-np.inf)
    rates.insert(0, "whole", trials["value"].notna().groupby(trials["rate"]).mean())
    rates["near"] = -np.abs(np.log(rates.index.to_numpy()))
    order = ["whole", "value", "second", "near"]
    return float(rates.sort_values(order, ascending=False).index[0])
