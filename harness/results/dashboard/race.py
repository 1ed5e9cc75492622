"""Build what the page says of races: its first table, and the answers of topics that were raced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.results import counted
from harness.results.dashboard import answers
from harness.results.dashboard.text import plain
from harness.results.outdated import TRIED

LISTED = 100
UNRACED = "not raced"
BEST = ("best", "leads", "tied best", "undecided")


def races(frame: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return each race: why it stopped, its arms that are left, those that are worse.

    name: its topic, with the metric where models of it are judged by several, and a number where
    it was raced more than once.
    first: its leader. own: the topic's recipe, None if it is among those left or was not raced.
    worse: what left the race; unmeasured: how many of them are that instead. more: how many of them
    are not listed. ahead: those that are before the leader on test data beyond doubt. rows: its
    rows of ``frame``.
    """
    found: list[dict[str, Any]] = []
    key = ["topic", "metric", "race"]
    races = () if frame is None else frame.groupby(key, sort=False, dropna=False)
    for (topic, metric, _), part in races:
        alone = frame is not None and frame.loc[frame["topic"] == topic, "metric"].nunique() == 1
        rows = plain(part)
        left = [row for row in rows if row["verdict"] in BEST]
        worse = [row for row in rows if row["verdict"] not in BEST]
        first = rows[0]
        found.append(
            {
                "name": _name(found, str(topic) if alone else f"{topic} by {metric}"),
                "topic": topic,
                "left": left,
                "worse": worse[:LISTED],
                "rows": part,
            }
            | {"own": next((row for row in worse if row["recipe"]), None)}
            | {"unmeasured": sum(row["verdict"] == answers.UNMEASURED for row in worse)}
            | {"more": max(0, len(worse) - LISTED), "arms": len(rows), "first": first}
            | {key: first[key] for key in ("metric", "direction", "margin", "stopped")}
            | {"chosen_by": first["chosen_by"]}
            | {"ahead": [row for row in rows if (row["test_behind_high"] or 0) < 0]}
        )
    return found


def current(frame: pd.DataFrame | None, cells: pd.DataFrame) -> pd.DataFrame | None:
    """Return the rows of races but those of a topic's earlier code, fields or data."""
    if frame is None or "setup" not in frame:
        return frame
    tried = cells[cells["status"].isin(TRIED) & counted.current(cells)]
    now = {text.split(" ")[0] for text in tried.get("setup", ())}
    return frame[(frame["setup"].fillna("") == "") | frame["setup"].isin(now)]


def _name(found: list[dict[str, Any]], name: str) -> str:
    """Return a race's name, with its number if earlier ones have it."""
    earlier = sum(race["name"].split(", race ")[0] == name for race in found)
    return f"{name}, race {earlier + 1}" if earlier else name


def arms(race: Mapping[str, Any], summary: pd.DataFrame) -> pd.DataFrame:
    """Return a race's arms as ``answers.configurations`` returns recipes, the best first.

    Their standings are the race's verdicts, and their means those of fresh seeds, NaN without any.
    They are chosen by the leader's mean less what they are behind it, or the leader when they left:
    the seeds that both had.
    """
    rows, better = race["rows"], race["direction"]
    counts = rows["trained"].str.extract(r"(\d+)/(\d+)").astype("Int64")
    told = rows.assign(
        parallel="single",
        rate=rows["rate"].fillna(1.0),
        standing=rows["verdict"],
        chosen=rows["validation"].iloc[0] - rows["behind"] * (1 if better == "max" else -1),
        mean=rows["test"],
        ci_low=rows["test_low"],
        ci_high=rows["test_high"],
        sd=np.nan,
        trained=counts[0],
        n=counts[1],
    )
    known = _named(answers.configurations(summary, race["topic"], race["metric"], better))
    untrained = known.drop_duplicates("name").set_index("name")["baseline"]
    told = _named(told.assign(train_s=answers.seconds(told)))
    return told.assign(baseline=told["name"].map(untrained))


def judged(own: pd.DataFrame, raced: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a topic's recipes with the verdicts of races as standings, for charts and for tables.

    own: as ``answers.configurations`` returns them; raced: the arms of all its races, the last of
    which counts for a recipe. Charts have the means over all seeds, tables what is reported; in
    both what was raced comes first.
    """
    raced = raced.drop_duplicates("name", keep="last")
    verdicts = raced.set_index("name")
    own = _named(own)
    own["standing"] = own["name"].map(verdicts["standing"]).fillna(UNRACED)
    for column in ("chosen", "train_s"):
        own[column] = own["name"].map(verdicts[column]).fillna(own[column])
    others = own[~own["name"].isin(verdicts.index)]
    shown = pd.concat([raced, others], ignore_index=True) if len(others) else raced
    place = {name: at for at, name in enumerate(shown["name"])}
    return own.sort_values("name", key=lambda names: names.map(place)), shown


def _named(recipes: pd.DataFrame) -> pd.DataFrame:
    """Return recipes with the names that the page has for them."""
    return recipes.assign(name=[answers.recipe(row) for row in plain(recipes)])
