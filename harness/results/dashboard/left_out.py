"""Name the cells that have no part, or not a whole one, in what the page says of their topic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.cell import TIMES
from harness.results.counted import ENDED, current, finite
from harness.results.dashboard.answers import UNMEASURED
from harness.results.effects import metric_names

LISTED = 100


def outdated(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the ids of a topic's outdated cells by what tells them from the current ones."""
    groups = cells[~current(cells)].groupby("outdated") if "outdated" in cells else ()
    return [
        {"why": why, "count": len(part), "ids": list(part["id"].head(LISTED))}
        for why, part in groups
    ]


def unmeasured(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the ids of a topic's cells that trained and whose metric is not a finite number.

    A group for the primary metric; one for those measured on test data that lack validation where
    others have it; one for each further metric that others of the cells' models have. so: what
    follows from it. cells: as ``answers.ranked`` returns them.
    """
    metric = cells["metric"].iloc[0]
    own = cells[cells["status"].isin(ENDED) & (cells["primary"] == metric) & current(cells)]
    unmeasured = (own["status"] == UNMEASURED).to_numpy()
    validated = np.isfinite(finite(own, f"validation.{metric}"))
    measured = np.isfinite(finite(own, f"metric.{metric}"))
    left_out = "which its means leave out"
    so = "so their recipes are compared with none" if unmeasured.any() else left_out
    kinds = {metric: (unmeasured | ~measured & ~validated, so)}
    if validated.any():
        lost = measured & ~validated & ~unmeasured
        kinds[f"validation {metric}"] = (lost, "so recipes are chosen by test data")
    for name in metric_names(own):
        if name != metric and not name.startswith(TIMES):
            known = pd.Series(np.isfinite(finite(own, f"metric.{name}")))
            others = known.groupby(own["model"].to_numpy()).transform("any")
            lost = (measured & ~known & others).to_numpy()
            kinds[name] = (lost, left_out)
    return [
        {"metric": name, "count": int(lost.sum()), "known": len(own), "so": so}
        | {"ids": list(own["id"][lost].head(LISTED))}
        for name, (lost, so) in kinds.items()
        if lost.any()
    ]
