"""Build the data of the page's first table: what races found, topic by topic."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.results.dashboard.text import plain

LISTED = 100
BEST = ("best", "leads", "tied best", "undecided")


def races(frame: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return each race: why it stopped, its arms that are left, those that are worse.

    name: its topic, with the metric where models of it are judged by several, and a number where
    it was raced more than once.
    first: its leader. own: the topic's recipe, None if it is among those left or was not raced.
    more: how many of the worse are not listed. ahead: those that are before the leader on test data
    beyond doubt.
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
            }
            | {"own": next((row for row in worse if row["recipe"]), None)}
            | {"more": max(0, len(worse) - LISTED), "arms": len(rows), "first": first}
            | {key: first[key] for key in ("metric", "direction", "margin", "stopped")}
            | {"chosen_by": first["chosen_by"]}
            | {"ahead": [row for row in rows if (row["test_behind_high"] or 0) < 0]}
        )
    return found


def _name(found: list[dict[str, Any]], name: str) -> str:
    """Return a race's name, with its number if earlier ones have it."""
    earlier = sum(race["name"].split(", race ")[0] == name for race in found)
    return f"{name}, race {earlier + 1}" if earlier else name
