"""Draw the primary metric against the values of a swept setting: a figure as in ``figures``."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.results.dashboard import answers, figures
from harness.results.dashboard.text import escaped, plain, rounded

LINES = len(figures.COLOURS) * len(figures.DASHES)
NOTE = (
    "Means over seeds of each recipe that has several values of it, the other axes and settings "
    "equal; whiskers are 95 % intervals where there are two seeds or more."
)


def curves(own: pd.DataFrame, metric: str) -> figures.Figure:
    """Build a line of the mean metric by value for each recipe, a choice per swept setting.

    own: the topic's rows of the summary, as ``answers.configurations`` returns them. Of a setting,
    the first 18 recipes are drawn.
    """
    pairs = [
        dict(one.split("=", 1) for one in text.split(" ") if "=" in one) for text in own["settings"]
    ]
    choices = []
    for name in dict.fromkeys(name for row in pairs for name in row):
        values = pd.Series([row.get(name) for row in pairs], own.index)
        rest = [" ".join(f"{n}={v}" for n, v in row.items() if n != name) for row in pairs]
        part = own.assign(value=values, settings=rest)[values.notna()]
        numbers = pd.to_numeric(part["value"], errors="coerce")
        numeric = bool(numbers.notna().all())
        part = part.assign(value=numbers if numeric else part["value"]).sort_values("value")
        data: list[dict[str, Any]] = []
        for _, rows in part.groupby([*answers.AXES, "rate", "settings"], sort=False):
            if len(rows) < 2 or len(data) == LINES:
                continue
            first = plain(rows.head(1))[0]
            data.append(
                {"type": "scatter", "mode": "lines+markers"}
                | {"name": escaped(answers.recipe(first)), "line": figures.style(len(data))}
                | {"x": rounded(rows["value"]) if numeric else [escaped(v) for v in rows["value"]]}
                | {"y": rounded(rows["mean"])}
                | {"error_y": {"type": "data", "array": rounded(rows["ci_high"] - rows["mean"])}}
                | {"hovertemplate": f"%{{y:.4g}} at {escaped(name)} %{{x}}<extra></extra>"}
            )
        if data:
            layout: dict[str, dict[str, Any]] = {
                "xaxis": {"title": {"text": escaped(name)}}
                | (figures.log(data, "x") if numeric else {"type": "category"}),
                "yaxis": {"title": {"text": escaped(metric)}, **figures.log(data, "y")},
            }
            choices.append(figures.choice(name, data, layout))
    return figures.figure(f"{metric} by setting", "setting", choices, NOTE)
