"""Records to DataFrames to files: cells, curves, a summary over seeds, effects of the axes.

Knows records as plain dicts only (``Record.to_dict``, or a cell's JSON as it was read).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.effects import direction, effects, metric_names
from harness.improvement import improvement
from harness.store import write_atomically
from harness.transfer import transfer

CONFIGURATION = ["topic", "model", "loss", "schedule", "parallel"]
BASE = [
    *("id", *CONFIGURATION, "seed", "status", "reason"),
    *(
        "world_size",
        "population",
        "profile",
        "dataset",
        "fingerprint",
        "started",
        "command",
        "traceback",
    ),
]
NUMBERS = {"seed", "world_size", "population"}
CURVE = ("step", "loss", "lr")
GROUPS = {
    "metrics": "metric",
    "baseline": "baseline",
    "evaluation": "evaluation",
    "directions": "direction",
    "budget": "budget",
    "cost": "cost",
    "checkpoint": "checkpoint",
    "parity": "parity",
    "environment": "environment",
}
NUMERIC = {"metric", "baseline", "budget", "cost"}
ALWAYS = {
    "budget": ("steps", "batch_size", "samples"),
    "cost": (
        *("wall_s", "train_s", "eval_s", "audit_s", "step_ms", "samples_per_s"),
        *("peak_memory_mb", "parameters", "flops_per_step"),
    ),
    "checkpoint": (
        *("state_equal", "resume_equal", "metrics_equal"),
        *("bytes", "save_s", "load_s", "replayed_steps"),
    ),
    "parity": ("difference", "steps", "exact", "equal"),
    "evaluation": ("extractor", "real", "generated"),
    "environment": ("python", "torch", "torchvision", "device", "cpu", "threads"),
}
FLAGS = {
    *("checkpoint.state_equal", "checkpoint.resume_equal", "checkpoint.metrics_equal"),
    *("parity.exact", "parity.equal"),
}
SUMMARY = {
    **dict.fromkeys([*CONFIGURATION, "metric", "direction"], "str"),
    "primary": "bool",
    **dict.fromkeys(["n", "n_diverged"], "int64"),
    **dict.fromkeys(
        ["mean", "sd", "iqm", "ci_low", "ci_high", "baseline", "train_s"],
        "float64",
    ),
}
REPLICATES = 2000


class Tables(NamedTuple):
    """A run's frames, as the functions of these names describe them."""

    cells: pd.DataFrame
    curves: pd.DataFrame
    summary: pd.DataFrame
    effects: pd.DataFrame
    improvement: pd.DataFrame
    transfer: pd.DataFrame


def cells(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per record, in their order; the columns' order does not depend on it.

    First id, the axes, status, reason and where the cell came from; then ``primary``, the name of
    the topic's primary metric; then the record's groups, flattened: ``metric.*`` (trained),
    ``baseline.*`` (untrained or random), ``evaluation.*`` (how they were measured),
    ``direction.*`` (max or min), ``budget.*``, ``cost.*`` (units in the names: s, ms, mb),
    ``checkpoint.*`` and ``parity.*`` (flags are nullable booleans, <NA> where not measured),
    ``environment.*``, and any further group under its own name. Missing numbers are NaN, missing
    texts of the base columns are empty.
    """
    rows = list(records)
    columns: dict[str, pd.Series] = {}
    for name in BASE:
        values = [row.get(name) for row in rows]
        if name in NUMBERS:
            columns[name] = pd.Series(values, dtype=object).fillna(0).astype("int64")
        else:
            columns[name] = pd.Series(["" if v is None else str(v) for v in values], dtype="str")
    first = [next(iter(row.get("directions") or {}), "") for row in rows]
    columns["primary"] = _primary(columns["topic"], pd.Series(first, dtype="str"))
    extra = {key for row in rows for key, value in row.items() if isinstance(value, dict)}
    for group in [*GROUPS, *sorted(extra - {*GROUPS, "curve"})]:
        prefix = GROUPS.get(group, group)
        parts = [row.get(group) or {} for row in rows]
        known = ALWAYS.get(prefix, ())
        found = {key for part in parts for key in part}
        for name in [*known, *sorted(found - set(known))]:
            column = f"{prefix}.{name}"
            columns[column] = _column(column, [part.get(name) for part in parts])
    return pd.DataFrame(columns)


def _primary(topics: pd.Series, first: pd.Series) -> pd.Series:
    """Records without directions (skipped, failed) take their topic's primary metric."""
    said = first[first != ""]
    known = dict(zip(topics[said.index][::-1], said[::-1], strict=True))
    fallback = [known.get(topic, "") for topic in topics]
    return first.where(first != "", pd.Series(fallback, dtype="str"))


def _column(column: str, values: Sequence[Any]) -> pd.Series:
    """Numbers as float64, flags as boolean, everything else as text."""
    if column.split(".")[0] in NUMERIC:
        return pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").astype("float64")
    kinds = {type(value) for value in values if value is not None}
    if column in FLAGS or kinds == {bool}:
        return pd.Series([v if isinstance(v, bool) else None for v in values], dtype="boolean")
    text = column.startswith(("environment.", "direction."))
    if kinds <= {int, float} and (kinds or not text):
        return pd.Series(values, dtype="float64")
    return pd.Series([None if v is None else str(v) for v in values], dtype="str")


def curves(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Long: one row per recorded point of each cell.

    id: categorical; step: optimizer step, from 1; loss: the first player's training loss;
    lr: its learning rate; more columns for what a topic's batches measure (an environment's
    returns). A list that is missing or too short is filled with NaN.
    """
    rows = list(records)
    ids: list[str] = []
    lengths: list[int] = []
    measured = {name for row in rows for name in row.get("curve") or ()} - {*CURVE}
    columns: dict[str, list[np.ndarray]] = {name: [] for name in (*CURVE, *sorted(measured))}
    for row in rows:
        curve = row.get("curve") or {}
        length = len(curve.get("step") or ())
        if not length:
            continue
        ids.append(str(row["id"]))
        lengths.append(length)
        for name, parts in columns.items():
            part = np.array(curve.get(name) or (), dtype=float)[:length]
            parts.append(np.pad(part, (0, length - len(part)), constant_values=np.nan))
    names = list(dict.fromkeys(ids))
    place = {name: code for code, name in enumerate(names)}
    codes = np.repeat(np.array([place[name] for name in ids], dtype=np.int32), lengths)
    index = pd.Index(names, dtype="str")
    return pd.DataFrame(
        {
            "id": pd.Categorical.from_codes(codes, categories=index),
            **{name: np.concatenate(parts or [np.empty(0)]) for name, parts in columns.items()},
        }
    )


def summary(cells: pd.DataFrame, replicates: int = REPLICATES) -> pd.DataFrame:
    """One row per topic, model, loss, schedule, parallel and metric, over its seeds.

    direction: max or min; primary: whether it is the topic's primary metric; n: seeds that are
    ``done`` with a finite value; n_diverged: seeds that diverged (in no mean); mean, sd (n - 1),
    iqm (mean without the lowest and highest quarter) in the metric's units; ci_low, ci_high:
    95 % bootstrap percentile interval of the mean, NaN when n < 2 (with few seeds it is too
    narrow: it never leaves their range); baseline: untrained or random, mean; train_s: mean
    seconds of training.
    """
    parts = []
    kept = cells[cells["status"].isin(["done", "diverged"])]
    for _, part in kept.groupby("topic", sort=True):
        part = part.sort_values([*CONFIGURATION, "seed"], kind="stable")
        groups = part.groupby(CONFIGURATION, sort=True)
        group = groups.ngroup().to_numpy()
        count = groups.ngroups
        labels = part[CONFIGURATION].iloc[np.unique(group, return_index=True)[1]]
        done = (part["status"] == "done").to_numpy()
        diverged = np.bincount(group[~done], minlength=count)
        train_s = _means(group, part["cost.train_s"].where(done).to_numpy(float), count)
        primary = next((name for name in part["primary"] if name), "")
        for metric in metric_names(part) or [primary]:
            values = _floats(part, f"metric.{metric}")
            values[~done] = np.nan
            parts.append(
                labels.assign(
                    metric=metric,
                    direction=direction(part, metric),
                    primary=metric == primary,
                    n_diverged=diverged,
                    baseline=_means(group, _floats(part, f"baseline.{metric}"), count),
                    train_s=train_s,
                    **_over_seeds(group, values, count, replicates),
                )
            )
    if not parts:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in SUMMARY.items()})
    frame = pd.concat(parts, ignore_index=True)[list(SUMMARY)].astype(SUMMARY)
    order = [*CONFIGURATION, "primary", "metric"]
    ascending = [name != "primary" for name in order]
    return frame.sort_values(order, ascending=ascending, ignore_index=True)


def _floats(frame: pd.DataFrame, column: str) -> np.ndarray:
    if column not in frame:
        return np.full(len(frame), np.nan)
    return frame[column].to_numpy(float, copy=True)


def _means(group: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    finite = np.isfinite(values)
    numbers = np.bincount(group[finite], minlength=count)
    sums = np.bincount(group[finite], weights=values[finite], minlength=count)
    return np.divide(sums, numbers, out=np.full(count, np.nan), where=numbers > 0)


def _over_seeds(
    group: np.ndarray, values: np.ndarray, count: int, replicates: int
) -> dict[str, np.ndarray]:
    """n and the statistics per group; group is sorted. Groups of one size go together."""
    finite = np.isfinite(values)
    group, values = group[finite], values[finite]
    sizes = np.bincount(group, minlength=count)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    names = ("mean", "sd", "iqm", "ci_low", "ci_high")
    result = {name: np.full(count, np.nan) for name in names}
    for size in np.unique(sizes[sizes > 0]):
        at = np.flatnonzero(sizes == size)
        block = values[starts[at][:, None] + np.arange(size)]
        result["mean"][at] = block.mean(axis=1)
        result["iqm"][at] = iqm(block)
        if size > 1:
            result["sd"][at] = block.std(axis=1, ddof=1)
            result["ci_low"][at], result["ci_high"][at] = bootstrap(block, replicates)
    return {"n": sizes, **result}


def iqm(values: np.ndarray) -> np.ndarray:
    """Interquartile mean along the last axis: a quarter (rounded down) cut at each end."""
    cut = values.shape[-1] // 4
    ordered = np.sort(values, axis=-1)
    return ordered[..., cut : values.shape[-1] - cut].mean(axis=-1)


def bootstrap(
    values: np.ndarray, replicates: int = REPLICATES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile intervals of the rows' means; all rows share one seeded set of resamples."""
    size = values.shape[1]
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(size, np.full(size, 1 / size), size=replicates).T / size
    low, high = np.empty(len(values)), np.empty(len(values))
    for start in range(0, len(values), 4096):
        rows = slice(start, start + 4096)
        centre = values[rows].mean(axis=1, keepdims=True)
        means = centre + (values[rows] - centre) @ weights
        low[rows], high[rows] = np.percentile(means, [2.5, 97.5], axis=1)
    return low, high


def quality(cells: pd.DataFrame, prefix: str = "metric") -> pd.Series:
    """Each cell's primary metric (prefix ``baseline``: the untrained one); NaN if it has none."""
    result = pd.Series(np.nan, index=cells.index, dtype="float64")
    for name in cells["primary"].unique():
        if f"{prefix}.{name}" in cells:
            here = cells["primary"] == name
            result[here] = cells.loc[here, f"{prefix}.{name}"].astype("float64")
    return result


def write(records: Iterable[Mapping[str, Any]], folder: Path) -> Tables:
    """Write cells and curves as Parquet; all but curves as CSV to folder.

    Each file is replaced at once or not at all. Returns the frames.
    """
    rows = list(records)
    table = cells(rows)
    told = (summary(table), effects(table), improvement(table), transfer(table))
    result = Tables(table, curves(rows), *told)
    for name in ("cells", "summary", "effects", "improvement", "transfer"):
        text = getattr(result, name).to_csv(index=False, lineterminator="\n")
        write_atomically(folder / f"{name}.csv", text.encode())
    for name in ("cells", "curves"):
        buffer = io.BytesIO()
        getattr(result, name).to_parquet(buffer, index=False, compression="zstd")
        write_atomically(folder / f"{name}.parquet", buffer.getvalue())
    return result
