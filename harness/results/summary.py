"""Statistics of each recipe over its seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.results.columns import SUMMARY
from harness.results.counted import RECIPE, chooser, competitors, counted, finite, shares_gpu
from harness.results.effects import direction, metric_names
from harness.results.standing import interval, standings


def summary(cells: pd.DataFrame) -> pd.DataFrame:
    """Return statistics over seeds, one row per recipe and metric.

    A recipe is a topic, model, loss, schedule, parallel configuration, precision, rate and settings
    (those that are swept, as ``lr=0.01 width=32``); exact parallel configurations stand in for
    single where it lacks a seed. direction: max or min; primary: whether it is the topic's primary
    metric; n: seeds that count, not those that trained to a value that is not finite; trained:
    those that trained to a finite value; n_diverged: those that diverged. mean, sd (n - 1), iqm
    (mean without the lowest and highest quarter): of test data, in the metric's units, where what
    did not train counts as its untrained baseline.
    ci_low, ci_high: 95 % interval of the mean (Student's t over seeds, and the test samples'
    standard error ``evaluation.METRIC_se`` where it is known), NaN for one seed. baseline:
    untrained or random, mean; train_s: mean seconds of training, of single if it was run;
    NaN if all have shared a GPU.
    validation: mean on validation data; chosen_by: ``validation``, or ``metric`` where a topic has
    no such data. standing: by that, among the recipes of the topic: best, tied, worse, one seed,
    untrained, only (``standing.standings``), or unmeasured: a seed has no finite value, so that the
    recipe has no statistics, and no other is best or the only one; empty but for the primary
    metric.
    """
    parts = []
    kept = competitors(cells) if len(cells) else cells
    for _, part in kept.groupby("topic", sort=True) if len(kept) else ():
        groups = part.groupby(RECIPE, sort=True)
        group, count = groups.ngroup().to_numpy(), groups.ngroups
        labels = part[RECIPE].iloc[np.unique(group, return_index=True)[1]]
        diverged = np.bincount(group[part["status"] == "diverged"], minlength=count)
        primary = next((name for name in part["primary"] if name), "")
        own = part["stands_in"].to_numpy()
        train_s = np.where(shares_gpu(part), np.nan, finite(part, "cost.train_s"))
        alone = _means(group, np.where(own, np.nan, train_s), count)
        seconds = np.where(np.isfinite(alone), alone, _means(group, train_s, count))
        for metric in metric_names(part) or [primary]:
            better = direction(part, metric)
            values, trained = counted(part, metric, better)
            rows = labels.assign(
                metric=metric,
                direction=better,
                primary=metric == primary,
                trained=np.bincount(group[trained], minlength=count),
                n_diverged=diverged,
                baseline=_means(group, finite(part, f"baseline.{metric}"), count),
                train_s=seconds,
                **over_seeds(group, values, count),
            )
            error = _errors(part, metric, group, count)
            mean, sd, n = (rows[name].to_numpy() for name in _USED)
            rows["ci_low"], rows["ci_high"] = interval(mean, sd, n, np.nan_to_num(error))
            parts.append(_chosen(rows, part, group, error))
    if not parts:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in SUMMARY.items()})
    frame = pd.concat(parts, ignore_index=True)[list(SUMMARY)].astype(SUMMARY)
    order = [*RECIPE, "primary", "metric"]
    ascending = [name != "primary" for name in order]
    return frame.sort_values(order, ascending=ascending, ignore_index=True)


def _chosen(
    rows: pd.DataFrame, part: pd.DataFrame, group: np.ndarray, error: np.ndarray
) -> pd.DataFrame:
    """Add the mean on validation data, what recipes are chosen by, and where each one stands."""
    metric, better = rows["metric"].iloc[0], rows["direction"].iloc[0]
    count = len(rows)
    by = chooser(part, metric)
    values, _ = counted(part, metric, better, "validation")
    known = by == "validation"
    rows["validation"] = over_seeds(group, values, count)["mean"] if known else np.nan
    rows["chosen_by"], rows["standing"] = by, ""
    if rows["primary"].iloc[0]:
        used = over_seeds(group, values, count) if known else {n: rows[n].to_numpy() for n in _USED}
        sign = 1.0 if better == "max" else -1.0
        mean, sd, n = (used[name] for name in _USED)
        trained = rows["trained"].to_numpy()
        done = np.bincount(group[part["status"] == "done"], minlength=count)
        has = ((rows["n"] > 0) | (done == 0)).to_numpy()  # else its model has no such metric
        given = (sign * mean, sd, n, np.nan_to_num(error), trained)
        lacks = np.bincount(group[part["status"] == "unmeasured"], minlength=count) > 0
        has = has & ~lacks
        found = standings(*(values[has] for values in given))
        alone = np.isin(found, ["best", "only"]) & lacks.any()
        rows.loc[has, "standing"] = np.where(alone, "tied", found)
        rows.loc[lacks, "standing"] = "unmeasured"
        rows.loc[lacks, STATISTICS] = np.nan
    return rows


_USED = ("mean", "sd", "n")
STATISTICS = ["mean", "sd", "iqm", "ci_low", "ci_high", "validation"]


def _errors(part: pd.DataFrame, metric: str, group: np.ndarray, count: int) -> np.ndarray:
    """Return each recipe's standard error over test samples: the root mean square of its seeds'."""
    found = finite(part, f"evaluation.{metric}_se")
    unit = max(1.0, np.nanmax(found, initial=0.0))
    return unit * np.sqrt(_means(group, np.square(found / unit), count))


def _means(group: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Return the mean of each of ``count`` groups' finite values; NaN for a group without any."""
    kept = np.isfinite(values)
    sizes = np.bincount(group[kept], minlength=count)
    parts = values[kept] / sizes[group[kept]]  # a sum near 1e308 would be infinite
    sums = np.bincount(group[kept], weights=parts, minlength=count)
    return np.where(sizes > 0, sums, np.nan)


def over_seeds(group: np.ndarray, values: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Return n, mean, sd and iqm of each group's finite values; ``group`` must be sorted."""
    kept = np.isfinite(values)
    group, values = group[kept], values[kept]
    sizes = np.bincount(group, minlength=count)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    result = {name: np.full(count, np.nan) for name in ("mean", "sd", "iqm")}
    for size in np.unique(sizes[sizes > 0]):
        at = np.flatnonzero(sizes == size)
        block = values[starts[at][:, None] + np.arange(size)]
        unit = np.exp2(np.floor(np.log2(np.fmax(np.abs(block).max(axis=1), 1.0))))
        block = block / unit[:, None]
        result["mean"][at] = unit * block.mean(axis=1)
        result["iqm"][at] = unit * iqm(block)
        if size > 1:
            result["sd"][at] = unit * block.std(axis=1, ddof=1)
    return {"n": sizes, **result}


def iqm(values: np.ndarray) -> np.ndarray:
    """Return the interquartile mean along the last axis: a quarter (rounded down) off each end."""
    cut = values.shape[-1] // 4
    ordered = np.sort(values, axis=-1)
    return ordered[..., cut : values.shape[-1] - cut].mean(axis=-1)
