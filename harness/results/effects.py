"""Analyse the matrix's axes: what each level does, what an axis explains, which axes interact.

All of it describes the cells at hand, by least squares with a noise that is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from harness.results import linear
from harness.results.chance import holm
from harness.results.counted import competitors, counted

AXES = ("model", "loss", "schedule", "parallel", "precision", "seed")
COLUMNS = {
    **dict.fromkeys(["topic", "metric", "kind", "axis", "across", "level"], "str"),
    **dict.fromkeys(["value", "low", "high", "p"], "float64"),
    **dict.fromkeys(["n", "df"], "int64"),
    "note": "str",
}
ALIASED = "cannot be told from the other axes in these cells"
NOTHING_LEFT = "as many parameters as cells: nothing is left to tell effect from luck"


def effects(cells: pd.DataFrame) -> pd.DataFrame:
    """Return what each axis does to each metric: levels with intervals, shares, interactions.

    Cells are those that compete, and values are counted, as ``counted`` says: exact parallel
    configurations stand in for single, and what did not train counts as its untrained baseline.

    Axes are model, loss, schedule, parallel, precision, seed, and each setting that is swept
    (``set.lr``).

    kind ``level``: value is how far ``level`` of ``axis`` is from the mean of the axis's levels,
    other axes equal, in the metric's units; low, high: its 95 % interval (Student's t). n: its
    cells; df: the residual's.

    kind ``share``: value is omega squared, the share of variance that the axis explains beyond what
    chance would (type II, 0 to 1; shares need not sum to 1); p: of its F test. n: cells. df:
    degrees of freedom that are the axis's own (0: other axes stand for it entirely). Axis
    ``residual`` is the share of what the model of main effects leaves.

    kind ``interaction``: value is omega squared of ``axis`` and ``across`` together beyond their
    main effects; p: of its F test, corrected for all of the metric's interactions (Holm). NaN where
    the cells have no degree of freedom for it, as ``note`` says.
    """
    rows: list[dict[str, Any]] = []
    kept = competitors(cells) if len(cells) else cells
    for topic, part in kept.groupby("topic", sort=True) if len(kept) else ():
        for metric in metric_names(part):
            values, trained = counted(part, metric, direction(part, metric))
            known = np.isfinite(values)
            if known.sum() < 2 or not trained.any():
                continue
            used = part[known]
            axes = [axis for axis in (*AXES, *swept(used)) if used[axis].nunique(dropna=False) > 1]
            levels = {axis: pd.factorize(_texts(used[axis]), sort=True) for axis in axes}
            for row in _rows(levels, values[known]):
                rows.append({"topic": topic, "metric": metric, **row})
    empty = {n: {"str": "", "int64": 0}.get(kind, np.nan) for n, kind in COLUMNS.items()}
    return pd.DataFrame([empty | row for row in rows], columns=list(COLUMNS)).astype(COLUMNS)


def swept(cells: pd.DataFrame) -> list[str]:
    """Return the columns of what cells compare several values of, such as ``set.lr``."""
    told = " ".join(cells["settings"].dropna().unique()) if "settings" in cells else ""
    names = dict.fromkeys(one.partition("=")[0] for one in told.split(" ") if "=" in one)
    return [f"set.{name}" for name in names if f"set.{name}" in cells]


def _texts(values: pd.Series) -> Any:
    """Return numbers of a setting as text, and what has none as empty text; else what it was."""
    if not str(values.name).startswith("set."):
        return values
    return values.map(lambda v: f"{v:g}" if isinstance(v, float) else str(v), "ignore").fillna("")


def metric_names(cells: pd.DataFrame) -> list[str]:
    """Return the metrics for which any of the cells has a value or a direction."""
    names = []
    for column in cells.columns:
        if column.startswith("metric."):
            name = column.removeprefix("metric.")
            known = f"direction.{name}"
            if cells[column].notna().any() or (known in cells and cells[known].notna().any()):
                names.append(name)
    return names


def direction(cells: pd.DataFrame, metric: str) -> str:
    """Return which is better of a metric, ``max`` or ``min``; ``max`` if no cell says."""
    column = f"direction.{metric}"
    known = cells[column].dropna().tolist() if column in cells else []
    return str(known[0]) if known else "max"


Levels = Mapping[str, tuple[np.ndarray, Any]]


def _rows(levels: Levels, values: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yield one metric's rows. levels: each axis's level codes of the values, and their names."""
    unit = np.abs(values).max()  # sums of squares of values near 1e308 would be infinite
    scaled = values / unit if unit else values
    scaled = scaled - scaled.mean()
    total = float(scaled @ scaled)
    if not levels or total <= 1e-24 * len(values):
        return
    codes = {axis: found for axis, (found, _) in levels.items()}
    blocks = {axis: linear.dummies(found) for axis, found in codes.items()}
    main = linear.fit(list(blocks.values()), scaled)
    left = len(values) - main.rank
    for axis, (found, names) in levels.items():
        effects_L = linear.level_effects(main, codes, axis, len(values))
        for code, (name, ends) in enumerate(zip(names, effects_L, strict=True)):
            value, low, high = (end * float(unit) for end in ends)
            note = ALIASED if np.isnan(value) else NOTHING_LEFT if not left else ""
            yield {
                **{"kind": "level", "axis": axis, "level": str(name)},
                **{"value": value, "low": low, "high": high},
                **{"n": int((found == code).sum()), "df": left, "note": note},
            }
    for axis in blocks:
        without = linear.fit([b for name, b in blocks.items() if name != axis], scaled)
        value, p = linear.test(without, main, main, len(values), total)
        own = main.rank - without.rank
        note = NOTHING_LEFT if own and not left else "" if own else ALIASED
        row = {"kind": "share", "axis": axis, "value": value, "p": p}
        yield row | {"n": len(values), "df": own, "note": note}
    row = {"kind": "share", "axis": "residual", "value": main.rss / total if left else np.nan}
    yield row | {"n": len(values), "df": left, "note": "" if left else NOTHING_LEFT}
    yield from _interactions(codes, blocks, scaled, main)


def _interactions(
    codes: Mapping[str, np.ndarray],
    blocks: Mapping[str, np.ndarray],
    values: np.ndarray,
    main: linear.Fit,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of kind ``interaction``: one for each pair of axes, seeds apart."""
    rows = []
    total = float(values @ values)
    for one, other in combinations([axis for axis in codes if axis != "seed"], 2):
        crossed = linear.crossed(codes[one], codes[other])
        whole = linear.fit([*blocks.values(), crossed], values)
        own, left = whole.rank - main.rank, len(values) - whole.rank
        value, p = linear.test(main, whole, whole, len(values), total)
        note = ALIASED if not own else "" if left else NOTHING_LEFT
        rows.append(
            {"kind": "interaction", "axis": one, "across": other, "value": value, "p": p}
            | {"n": len(values), "df": own, "note": note}
        )
    corrected = holm(np.array([row["p"] for row in rows], float))
    yield from (row | {"p": float(p)} for row, p in zip(rows, corrected, strict=True))
