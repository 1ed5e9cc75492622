"""Tell which cells of a folder are of another experiment than those trained last."""

from __future__ import annotations

import re

import pandas as pd

TRIED = ("done", "unmeasured", "diverged", "failed", "timeout")
BUDGET = ["budget.steps", "budget.batch_size", "budget.samples"]
ALL = -1.0  # samples, where a budget has them all
CONTENT = re.compile(r".*@([0-9a-f]{8,})", re.DOTALL)  # a hash, unlike CartPole-v1@gymnasium-1.4.0


def outdated(cells: pd.DataFrame) -> pd.Series:
    """Return why each cell is not ranked beside the last one of its topic; empty if it is.

    A folder keeps what a later run does not train anew. What has other data, another budget or
    other code than the last cell that was trained is of another experiment. Data and budgets are
    held against those of the same swept settings, budgets against the same model's.
    """
    why = pd.Series("", cells.index, dtype="str")
    tried = cells[cells["status"].isin(TRIED)].sort_values("started", kind="stable")
    for topic, part in tried.groupby("topic", sort=False):
        code = _unlike_the_last(_named(part["setup"], str(topic)))
        data = _by(part, part["dataset"].map(content).to_frame(), ["settings"])
        known = part["budget.steps"].notna()
        budget = _by(part[known], part.loc[known, BUDGET].fillna(ALL), ["settings", "model"])
        why[code[code].index] = "other code or fields"
        why[budget[budget].index] = "another budget"
        why[data[data].index] = "other data"
    return why


def lines(cells: pd.DataFrame) -> list[str]:
    """Return a line for each topic's cells that are outdated, by what they have."""
    groups = cells[cells["outdated"] != ""].groupby(["topic", "outdated"])
    return [
        f"{topic}: {len(part)} {'cells have' if len(part) > 1 else 'cell has'} {why} than the last "
        "one trained: not ranked with it"
        for (topic, why), part in groups
    ]


def content(dataset: str) -> str:
    """Return the ``@HASH`` of its content that a data set's name ends in; without one the name."""
    found = CONTENT.fullmatch(dataset)
    return f"@{found[1]}" if found else dataset


def _named(setups: pd.Series, topic: str) -> pd.DataFrame:
    """Return a column for each name in texts such as ``mine=1a2b focal=3c4d``.

    The topic's is empty where nothing is known, as of a record of an earlier version.
    """
    rows = [{topic: ""} | dict(one.split("=") for one in text.split()) for text in setups]
    return pd.DataFrame(rows, index=setups.index)


def _by(part: pd.DataFrame, values: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Return which rows are unlike the last one that is equal to them in some columns."""
    groups = values.groupby([part[column] for column in columns], sort=False)
    found = [_unlike_the_last(group) for _, group in groups]
    return pd.concat(found) if found else pd.Series(dtype=bool)


def _unlike_the_last(values: pd.DataFrame) -> pd.Series:
    """Return which rows have a value that is not the last one of its column."""
    last = values.ffill().iloc[-1]
    return (values.notna() & values.ne(last, axis=1)).any(axis=1)
