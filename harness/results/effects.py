"""Analyse the matrix's axes: the share of variance each explains, and where rankings reverse.

Both describe the cells at hand. In a covering design an axis meets the others unevenly, so shares
overlap, and an order of levels may owe something to what they met.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd

AXES = ("model", "loss", "schedule", "parallel", "seed")
COLUMNS = {
    "topic": "str",
    "metric": "str",
    "kind": "str",
    "axis": "str",
    "across": "str",
    "value": "float64",
    "n": "int64",
    "df": "int64",
    "level_1": "str",
    "level_2": "str",
    "best_1": "str",
    "best_2": "str",
    "note": "str",
}


def effects(cells: pd.DataFrame) -> pd.DataFrame:
    """Return how much each axis explains of each metric, and if its ranking depends on another.

    kind ``share``: value is the axis's type-II sum of squares in a least-squares model of main
    effects, over the total (0 to 1; shares need not sum to 1 when the design is unbalanced); axis
    ``residual`` is what the model leaves. n: cells. df: degrees of freedom that are the axis's own
    (0, value NaN: other axes stand for it entirely). Axes with one level are left out.

    kind ``turnover``: value is the smallest Kendall tau-b between the orders of ``axis``'s levels
    under two levels of ``across`` (1: same order, -1: reversed). level_1, level_2: those two. n:
    the levels of ``axis`` they share. df: the pairs of levels compared. best_1, best_2: ``axis``'s
    best shared level under each. ``across`` = seed tells how much is luck.

    note: why a value deserves less trust, or empty.
    """
    rows: list[dict[str, Any]] = []
    done = cells[cells["status"] == "done"] if len(cells) else cells
    for topic, part in done.groupby("topic", sort=True) if len(done) else ():
        for metric in metric_names(part):
            finite = np.isfinite(part[f"metric.{metric}"].to_numpy(float))
            used = part[finite]
            if len(used) < 2:
                continue
            values = used[f"metric.{metric}"].to_numpy(float)
            axes = [axis for axis in AXES if used[axis].nunique() > 1]
            levels = {axis: pd.factorize(used[axis], sort=True) for axis in axes}
            highest = direction(part, metric) != "min"
            for row in (*shares(levels, values), *turnovers(levels, values, highest)):
                rows.append({"topic": topic, "metric": metric, **row})
    empty = {name: "" if kind == "str" else 0 for name, kind in COLUMNS.items()}
    return pd.DataFrame([empty | row for row in rows], columns=list(COLUMNS)).astype(COLUMNS)


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


Levels = Mapping[str, tuple[np.ndarray, Iterable[Any]]]


def shares(levels: Levels, values: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yield each axis's share of the variance of ``values``, as the ``share`` rows of ``effects``.

    levels: per axis, each value's integer level code and the levels' names.
    """
    centred = values - values.mean()
    total = float(centred @ centred)
    scale = np.abs(values).max()
    if not levels or total <= (scale * 1e-12) ** 2 * len(values):
        return
    blocks = {axis: np.eye(codes.max() + 1)[codes] for axis, (codes, _) in levels.items()}
    full, rank = _residual(list(blocks.values()), centred)
    left = len(values) - rank
    note = "" if left else "as many parameters as cells: nothing is left to tell effect from luck"
    for axis in blocks:
        others = [block for name, block in blocks.items() if name != axis]
        without, smaller = _residual(others, centred)
        own = rank - smaller
        share = max(without - full, 0.0) / total if own else np.nan
        aliased = "" if own else "cannot be told from the other axes in these cells"
        yield {
            "kind": "share",
            "axis": axis,
            "value": share,
            "n": len(values),
            "df": own,
            "note": aliased or note,
        }
    yield {
        "kind": "share",
        "axis": "residual",
        "value": full / total,
        "n": len(values),
        "df": left,
        "note": note,
    }


def _residual(blocks: Sequence[np.ndarray], centred: np.ndarray) -> tuple[float, int]:
    """Return residual sum of squares and rank of least squares on an intercept and dummies."""
    design = np.hstack([np.ones((len(centred), 1)), *blocks])
    gram, moment = design.T @ design, design.T @ centred
    eigenvalues, vectors = np.linalg.eigh(gram)
    kept = eigenvalues > eigenvalues.max() * len(gram) * 1e-12
    explained = ((vectors[:, kept].T @ moment) ** 2 / eigenvalues[kept]).sum()
    return max(float(centred @ centred - explained), 0.0), int(kept.sum())


def turnovers(levels: Levels, values: np.ndarray, highest: bool) -> Iterator[dict[str, Any]]:
    """Yield where the order of one axis's levels changes most along another: the ``turnover`` rows.

    One row per ordered pair of axes that has anything to compare. highest: larger values are
    better.
    """
    for axis, across in permutations(levels, 2):
        if axis == "seed":
            continue
        (rows, row_names), (columns, column_names) = levels[axis], levels[across]
        table = mean_table(rows, columns, values)
        tau = kendall(table)
        if not np.isfinite(tau).any():
            continue
        one, two = sorted(np.unravel_index(np.nanargmin(tau), tau.shape))
        shared = np.flatnonzero(np.isfinite(table[:, [one, two]]).all(axis=1))
        pick = np.argmax if highest else np.argmin
        best = [str(list(row_names)[shared[pick(table[shared, at])]]) for at in (one, two)]
        names = [str(list(column_names)[at]) for at in (one, two)]
        yield {
            "kind": "turnover",
            "axis": axis,
            "across": across,
            "value": float(tau[one, two]),
            "n": len(shared),
            "df": int(np.isfinite(tau[np.triu_indices(len(tau), 1)]).sum()),
            "level_1": names[0],
            "level_2": names[1],
            "best_1": best[0],
            "best_2": best[1],
            "note": "two levels only: they agree or they swap" if len(shared) == 2 else "",
        }


def mean_table(rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the means of values by integer row and column code, 2-D; NaN where there are none."""
    shape = (rows.max() + 1, columns.max() + 1)
    flat = rows * shape[1] + columns
    counts = np.bincount(flat, minlength=shape[0] * shape[1])
    sums = np.bincount(flat, weights=values, minlength=shape[0] * shape[1])
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, sums / counts, np.nan).reshape(shape)


def kendall(table: np.ndarray) -> np.ndarray:
    """Return Kendall's tau-b between all pairs of columns, each over the rows that both have.

    NaN on the diagonal, where two columns share fewer than two rows, and where one is all ties.
    """
    first, second = np.triu_indices(len(table), 1)
    signs = np.sign(table[first] - table[second])
    valid = np.isfinite(signs)
    signs = np.where(valid, signs, 0.0)
    present = valid.astype(float)
    untied = (signs**2).T @ present
    scale = np.sqrt(untied * untied.T)
    tau = np.divide(signs.T @ signs, scale, out=np.full_like(scale, np.nan), where=scale > 0)
    np.fill_diagonal(tau, np.nan)
    return tau
