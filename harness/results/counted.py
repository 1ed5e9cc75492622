"""Say which cells compete in quality, and what a training that came to nothing counts as.

A recipe is a topic's model, loss, schedule, parallel configuration, precision, rate and settings. A
parallel configuration that promises single's numbers is no recipe of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.cell import FP32, TIMES
from harness.results.columns import CONFIGURATION
from harness.results.outdated import TRIED

RECIPE = [*CONFIGURATION, "rate", "settings"]
# what stands for a cell's value where its table has none
LEFT_OUT: dict[str, Any] = {"rate": 1.0, "settings": "", "precision": FP32}
# what decides whether a cell promises single's numbers: the first four tell most of it
PROMISING = ["topic", "model", "parallel", "precision", "loss", "settings"]
ENDED = ("done", "unmeasured")  # to the last step, with metrics


def competitors(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that were tried, one for each recipe and seed, with single's stand-ins.

    What is outdated is left out.

    An exact parallel configuration (``parity.exact``) has single's numbers, so it is no competitor:
    its cells that trained are those of ``single`` for seeds that single lacks, and left out else.
    Column ``stands_in`` marks them. What the columns of LEFT_OUT lack is added. A cell whose parity
    was not measured, as one that failed, promises what others of its loss and settings do, and if
    none of them was measured, what others of its model do.
    """
    kept = cells[cells["status"].isin(TRIED) & current(cells)].copy()
    for name, value in LEFT_OUT.items():
        kept[name] = kept[name].fillna(value) if name in kept else value
    promised = said = pd.Series(finite(kept, "parity.exact"), kept.index)
    for alike in (PROMISING, PROMISING[:4]):
        others = said.groupby([kept[name] for name in alike]).transform("max")
        promised = promised.fillna(others)
    kept["stands_in"] = (kept["parallel"] != "single") & (promised == 1)
    kept = kept[~kept["stands_in"] | kept["status"].isin([*ENDED, "diverged"])].copy()
    kept.loc[kept["stands_in"], "parallel"] = "single"
    kept = kept.sort_values([*RECIPE, "seed", "stands_in"], kind="stable")
    return kept.drop_duplicates([*RECIPE, "seed"])


def counted(
    cells: pd.DataFrame, metric: str, better: str, prefix: str = "metric"
) -> tuple[np.ndarray, np.ndarray]:
    """Return a topic's cells' values of a metric, and which of them are of trained networks.

    A cell that diverged, failed or ran out of time counts as its untrained baseline (its model's
    mean one if it has none of its own, without any as the worst of its model), or as what was
    measured if that is worse. One that never got there (``steps_to_solve``) counts as all the steps
    that its environment gave. One that trained counts as nothing (NaN) where its value is not
    finite or its model has no such metric, and so does one that was only validated, to choose by.
    better: ``max`` or ``min``; prefix: ``metric`` or ``validation``.
    """
    sign = 1.0 if better == "max" else -1.0
    values = finite(cells, f"{prefix}.{metric}")
    ended = cells["status"].isin(ENDED).to_numpy()
    trained = ended & np.isfinite(values)
    model = cells["model"].to_numpy()
    never = metric.startswith(TIMES)
    floor = finite(cells, "evaluation.env_steps" if never else f"baseline.{metric}")
    mean = pd.Series(floor).groupby(model).transform("mean").to_numpy()
    floor = np.where(np.isfinite(floor), floor, mean)
    seen = pd.Series(np.where(trained, sign * values, np.nan))
    worst = sign * seen.groupby(model).transform("min").to_numpy()
    floor = np.where(np.isfinite(floor), floor, worst)
    with np.errstate(invalid="ignore"):
        lost = sign * np.fmin(sign * floor, sign * values)
    against = ~trained & (~ended | never)
    return np.where(trained, values, np.where(against, lost, np.nan)), trained


def current(cells: pd.DataFrame) -> pd.Series:
    """Return which cells are of the experiment of their topic's last one, and so may be ranked."""
    return cells["outdated"] == "" if "outdated" in cells else pd.Series(True, cells.index)


def chooser(cells: pd.DataFrame, metric: str) -> str:
    """Return what a topic's cells are chosen by: ``validation`` if all that are done have it.

    Else ``metric``: what is measured on test data.
    """
    done = cells[cells["status"] == "done"]
    has = np.isfinite(finite(done, f"metric.{metric}"))
    known = np.isfinite(finite(done, f"validation.{metric}"))
    return "validation" if has.any() and known[has].all() else "metric"


def shares_gpu(cells: pd.DataFrame) -> np.ndarray:
    """Return which cells' trainings may have shared a GPU: by its time none of them is judged."""
    return finite(cells, "environment.per_gpu") > 1


def finite(frame: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column as float64, NaN for what is missing or not finite, or if there is none."""
    if column not in frame:
        return np.full(len(frame), np.nan)
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(float, copy=True)
    values[~np.isfinite(values)] = np.nan
    return values
