"""Statistics of each configuration over its seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.results.columns import CONFIGURATION, SUMMARY
from harness.results.effects import direction, metric_names

REPLICATES = 2000


def summary(cells: pd.DataFrame, replicates: int = REPLICATES) -> pd.DataFrame:
    """Return statistics over seeds, one row per configuration and metric.

    A configuration is a topic, model, loss, schedule and parallel configuration. direction: max or
    min; primary: whether it is the topic's primary metric; n: seeds that are ``done`` with a finite
    value; n_diverged: seeds that diverged (in no mean); mean, sd (n - 1), iqm (mean without the
    lowest and highest quarter) in the metric's units; ci_low, ci_high: 95 % bootstrap percentile
    interval of the mean, NaN when n < 2 (with few seeds it is too narrow: it never leaves their
    range); baseline: untrained or random, mean; train_s: mean seconds of training.
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
    """Return a copy of a column as float64, all NaN if the frame lacks it."""
    if column not in frame:
        return np.full(len(frame), np.nan)
    return frame[column].to_numpy(float, copy=True)


def _means(group: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Return the mean of each of ``count`` groups' finite values; NaN for a group without any."""
    finite = np.isfinite(values)
    numbers = np.bincount(group[finite], minlength=count)
    sums = np.bincount(group[finite], weights=values[finite], minlength=count)
    return np.divide(sums, numbers, out=np.full(count, np.nan), where=numbers > 0)


def _over_seeds(
    group: np.ndarray, values: np.ndarray, count: int, replicates: int
) -> dict[str, np.ndarray]:
    """Compute n and the statistics of each group of values; ``group`` must be sorted."""
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
    """Return the interquartile mean along the last axis: a quarter (rounded down) off each end."""
    cut = values.shape[-1] // 4
    ordered = np.sort(values, axis=-1)
    return ordered[..., cut : values.shape[-1] - cut].mean(axis=-1)


def bootstrap(
    values: np.ndarray, replicates: int = REPLICATES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper bounds of each row's 95 % bootstrap interval of the mean.

    values: (rows, seeds). Percentile intervals; all rows share one seeded set of resamples.
    """
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
