"""Draw the primary metric against the values of a swept setting: a figure as in ``figures``."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.results.dashboard import answers, figures
from harness.results.dashboard.text import escaped, plain, rounded
from harness.results.effects import swept

LINES = len(figures.COLOURS) * len(figures.DASHES)
NOTE = (
    "Means over seeds of each recipe that has several values of it, the other axes and settings "
    "equal; whiskers are 95 % intervals where there are two seeds or more."
)


def curves(own: pd.DataFrame, metric: str, cells: pd.DataFrame) -> figures.Figure:
    """Build a line of the mean metric by value for each recipe, a choice per swept setting.

    own: the topic's rows of the summary, as ``answers.configurations`` returns them; cells: the
    topic's, which know each setting's values. Of a setting, the first 18 recipes are drawn.
    """
    columns = swept(cells)
    known = cells[cells["settings"] != ""].drop_duplicates("settings").set_index("settings")
    own = own.join(known[columns], on="settings")
    choices = []
    for column in columns:
        name, others = column.removeprefix("set."), [one for one in columns if one != column]
        part = own[own[column].notna()]
        part = part.assign(value=part[column].astype(str))
        numbers = pd.to_numeric(part["value"], errors="coerce")
        numeric = bool(numbers.notna().all())
        part = part.assign(value=numbers if numeric else part["value"]).sort_values("value")
        data: list[dict[str, Any]] = []
        for _, rows in part.groupby([*answers.AXES, "rate", *others], sort=False, dropna=False):
            if len(rows) < 2 or len(data) == LINES:
                continue
            first = plain(rows.head(1))[0]
            first["settings"] = _told(first, others)
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


def _told(row: dict[str, Any], columns: list[str]) -> str:
    """Return the settings that a recipe has as text: ``lr=0.01 width=32``."""
    known = {column.removeprefix("set."): row[column] for column in columns}
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in known.items()
        if value is not None
    )
