"""Turn races into answers: a row for each arm, in ``answers.csv`` in the run's folder."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from harness.race import fresh
from harness.race.course import Course
from harness.race.procedure import Standing
from harness.race.statistic import Interval, trained_share
from harness.results import side_files
from harness.results.columns import STUDIES
from harness.results.record import Record

NAME = "answers"
NONE = Standing(math.nan, Interval(math.nan, math.nan, math.nan), 0)  # of what is unmeasured


def rows(course: Course) -> list[dict[str, Any]]:
    """Return a row for each arm of a race, those that are left first, the best of them first.

    verdict: ``best`` (the only one left), ``leads`` (the leader, where others are undecided and
    none is tied), ``tied best`` (the leader, and what is within the margin of it beyond doubt),
    ``undecided`` (not told apart from the leader when the time was over), ``worse`` (it left by
    ``dropped_by``), ``unmeasured`` (so did it, since a training has no finite value). behind is by
    how much an arm is worse than the leader, or than the leader of the block by which it left, on
    validation data, test_behind the same of fresh seeds on test data; both in the metric's unit
    with the ends of their intervals, and missing of what is unmeasured. Figures of test data are
    those of ``seeds`` fresh seeds; trained counts all that trained to a finite value. race: a hash
    of the arms, by which races of a topic are told apart. setup: a hash of the topic's code, fields
    and data, as records have it.
    """
    race, measure = course.race, course.measure
    dropped = [arm for arm in race.arms if arm not in (*race.left, *race.withdrawn)]
    dropped.sort(key=lambda arm: (-race.standings[arm].blocks, -race.standings[arm].value))
    reported = _reports(course)
    found = []
    for arm in [*course.left, *dropped, *race.withdrawn]:
        cell, blocks = course.cells[arm], len(course.records[arm])
        standing = NONE if arm in race.withdrawn else race.standings[arm]
        records = [*course.records[arm], *course.fresh.get(arm, [])]
        trained = [r for r in records if measure.choice(r) is not None]
        alone = [r for r in records if r.environment.get("per_gpu", 1) == 1]
        times = [r.cost["train_s"] for r in alone if "train_s" in r.cost]
        share = trained_share(len(trained), len(records))
        found.append(
            {"topic": course.topic.name, "model": cell.model, "loss": cell.loss}
            | {"schedule": cell.schedule, "precision": cell.precision, "rate": _rate(records)}
            | {"settings": cell.settings_text}
            | {"verdict": _verdict(course, arm), "recipe": arm == course.recipe}
            | {"dropped_by": None if arm in race.left else blocks}
            | {"metric": measure.metric, "direction": measure.direction, "margin": race.margin}
            | {"chosen_by": measure.half}
            | {"validation": measure.sign * standing.value if standing is not NONE else None}
            | _ends("behind", standing.behind)
            | _figures(reported.get(arm), measure.sign)
            | {"blocks": blocks, "seeds": len(course.fresh.get(arm, []))}
            | {"trained": f"{len(trained)}/{len(records)}", "trained_low": share.low}
            | {"train_s": sum(times) / len(times) if times else None, "stopped": course.stopped}
            | {"race": _name(course), "setup": records[0].setup.split(" ")[0]}
        )
    return found


def keep(folder: Path, course: Course, report: Callable[[str], None]) -> None:
    """Write a race's rows to the folder's answers.csv, where other races' rows stay."""
    frame = pd.DataFrame(rows(course), columns=list(STUDIES[NAME]))
    about = {"topic": course.topic.name, "metric": course.measure.metric, "race": _name(course)}
    side_files.keep(folder, NAME, frame, about, report)


def _name(course: Course) -> str:
    return hashlib.sha256(" ".join(sorted(course.race.arms)).encode()).hexdigest()[:8]


def _verdict(course: Course, arm: str) -> str:
    race = course.race
    if arm not in race.left:
        return "unmeasured" if arm in race.withdrawn else "worse"
    if len(race.left) == 1:
        return "leads" if race.withdrawn else "best"
    tied = [name for name in race.left if race.standings[name].tied]
    if tied == [arm] == [race.leader]:
        return "leads"
    return "tied best" if arm in tied else "undecided"


def _reports(course: Course) -> dict[str, fresh.Report]:
    """Return what fresh seeds say of the arms that have them."""
    test = course.measure.test
    values = {
        arm: [math.nan if (value := test(record)) is None else value for record in records]
        for arm, records in course.fresh.items()
    }
    return fresh.reports(values, course.race.leader) if any(values.values()) else {}


def _figures(report: fresh.Report | None, sign: int) -> dict[str, float | None]:
    """Return the columns of fresh seeds in the metric's own direction."""
    if report is None:
        names = ("test", "test_low", "test_high", "test_behind")
        return dict.fromkeys((*names, "test_behind_low", "test_behind_high"))
    mean = report.mean
    ends = sorted((sign * mean.low, sign * mean.high))
    own = Interval(sign * mean.mean, *ends)
    return _ends("test", own) | _ends("test_behind", report.behind)


def _ends(name: str, interval: Interval) -> dict[str, float | None]:
    """Return an interval as columns; what is not finite is missing."""
    values = {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return {key: value if math.isfinite(value) else None for key, value in values.items()}


def _rate(records: list[Record]) -> float:
    return records[0].rate_used if records else 1.0
