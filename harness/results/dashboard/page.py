"""Render the HTML page of a run from its tables."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd
from plotly.offline import get_plotlyjs

from harness.cell import FAULTS, FP32
from harness.results.columns import Tables
from harness.results.counted import current, finite, shares_gpu
from harness.results.dashboard import (
    answers,
    figures,
    left_out,
    levels,
    looks,
    race,
    sections,
    sensitivity,
    sweeps,
    text,
    told,
)

TABLE_ROWS = 5000
IMAGES = 12
IMAGE_BYTES = 6_000_000
PNG = b"\x89PNG\r\n\x1a\n"


def render(
    tables: Tables,
    title: str,
    images: Mapping[str, bytes] | None = None,
    damaged: Sequence[str] = (),
) -> str:
    """Return a run's HTML page, rendered from its tables; all text from the frames is escaped.

    images: PNG bytes by cell id, shown with their topic: those of its best 12 cells, 6 MB in all.
    damaged: a line for each file of the run that is not shown, and why. Large runs list the best
    5,000 cells.
    """
    cells = answers.ranked(tables.cells)
    groups = {str(name): group for name, group in cells.groupby("topic", sort=True)}
    chosen = {name: figures.picks(group) for name, group in groups.items()}
    lines = _lines(
        tables.curves,
        {cell for pick in chosen.values() for ls in pick.values() for _, cell, _ in ls},
    )
    budget = [IMAGE_BYTES]
    raced = race.current(tables.answers, tables.cells)
    races = race.races(raced)
    topics = [
        _topic(name, group, tables, chosen[name], lines, groups, races)
        | {"images": _images(group, images or {}, budget)}
        | {"transfer": sections.transfer(tables.transfer, name)}
        for name, group in groups.items()
    ]
    status = cells["status"]
    table = sections.cells_table(cells, TABLE_ROWS)
    here = files(__package__)
    return _template().render(
        title=title,
        damaged=damaged,
        plotly=get_plotlyjs(),
        style=(here / "style.css").read_text("utf-8"),
        script="".join((here / name).read_text("utf-8") for name in ("charts.js", "tables.js")),
        data=text.script_json({"figures": [topic["figures"] for topic in topics], "cells": table}),
        topics=topics,
        races=races,
        older=0 if raced is None or tables.answers is None else len(tables.answers) - len(raced),
        machine=_machine(cells),
        counts=status.value_counts().to_dict(),
        trust=sections.trust(cells),
        diverged=sections.diverged(cells[status == "diverged"]),
        failures=sections.grouped(cells[status.isin(FAULTS)]),
        skips=sections.grouped(cells[status == "skipped"]),
        effects=told.effects(tables.effects, {t["name"]: t["metric"] for t in topics}),
        improvement=sections.improvement(tables.improvement),
        benchmark=sections.throughput(tables.benchmark),
        parity=sections.parity(tables.parity),
        scaling=sections.scaling(tables.scaling),
        resharding=sections.resharding(tables.resharding),
        table=table,
    )


@cache
def _template() -> jinja2.Template:
    """Return the page's template, with autoescaping and the number formats of ``text``."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    for name in ("number", "seconds", "amount", "percent", "finite", "chance"):
        environment.filters[name] = getattr(text, name)
    environment.filters["recipe"] = answers.recipe
    return environment.from_string((files(__package__) / "page.html.j2").read_text("utf-8"))


def _topic(
    name: str,
    group: pd.DataFrame,
    tables: Tables,
    chosen: Mapping[str, Sequence[tuple[str, str, str]]],
    lines: figures.Lines,
    topics: Iterable[str],
    races: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return all that the page shows of one topic.

    chosen: the cells whose curves are drawn. topics: the names of all. races: those of all topics;
    where recipes were raced by the topic's metric, the races alone say how they stand.
    """
    metric, better = answers.primary(group)
    now = group[current(group)]
    curves = [looks.curves(chosen, tables.held_out, group, metric)]
    curves += figures.curves(chosen, lines)
    own = shown = answers.configurations(tables.summary, name, metric, better)
    pairs = answers.pairs(group, "parallel", "single")
    precise = answers.pairs(group, "precision", FP32)
    own_races = [(one, race.arms(one, tables.summary)) for one in races if one["topic"] == name]
    said = [(one["name"], answers.best(arms, one["direction"])) for one, arms in own_races]
    raced = [arms for one, arms in own_races if one["metric"] == metric]
    best = None if raced else answers.best(own, better)
    if raced:
        own, shown = race.judged(own, pd.concat(raced))
    found = tables.effects
    found = found[(found["topic"] == name) & (found["metric"] == metric)]
    charts = [*curves]
    if len(own):
        charts = [levels.dots(found, metric, better), figures.heat(own, metric, better)]
        charts += [sweeps.curves(own, metric, group), figures.against_time(own, metric, better)]
        charts += [sensitivity.curves(tables.trials, name, metric, better)]
        charts += [*curves, figures.scaling(pairs, metric)]
    return {
        "name": name,
        "metric": metric,
        "better": better,
        "answers": said + ([] if raced else [(name, best)]),
        "cannot": told.cannot(now, found, best, topics),
        "raced": bool(raced),
        "unraced": int((shown["standing"] == race.UNRACED).sum()),
        "front": answers.front(shown, better),
        "models": answers.by_model(shown, better),
        "top": text.plain(shown.head(10)),
        "configurations": len(shown),
        "counts": now["status"].value_counts().to_dict(),
        "what": _what(now),
        "notes": sections.data_notes(now),
        "outdated": left_out.outdated(group),
        "unmeasured": left_out.unmeasured(group),
        "untrainable": sections.untrainable(now),
        "trust": sections.trust(group),
        "parallel": _beside(pairs, "parallel", better),
        "precision": _beside(precise, "precision", better),
        "figures": [chart for chart in charts if chart["choices"]],
    }


def _beside(pairs: pd.DataFrame, axis: str, better: str) -> list[dict[str, Any]]:
    """Compare each value of an axis with the plain one, by medians over cells.

    pairs: as ``answers.pairs`` returns them. times, memory: how many times the plain one's
    throughput and memory it has. efficiency: times over ranks; None for what trains in one process
    (dp), whose GPUs are not counted.
    """
    sign = -1 if better == "min" else 1
    found = []
    for name, part in pairs.groupby(axis, sort=True):
        times = part["samples_per_s"] / part["samples_per_s_plain"]
        memory = part["peak_mb"] / part["peak_mb_plain"]
        change = part["quality"] - part["quality_plain"]
        ranks = part["world_size"].max()
        found.append(
            {"name": name, "pairs": len(part), "ranks": ranks}
            | {"efficiency": times.median() / ranks if ranks > 1 else None}
            | {"samples_per_s": part["samples_per_s"].median(), "times": times.median()}
            | {"low": times.min(), "high": times.max(), "memory": memory.median()}
            | {"change": change.median(), "worst": sign * (sign * change).min()}
            | {"difference": part["difference"].max()}
        )
    return found


def _what(group: pd.DataFrame) -> str:
    """Describe a topic's data and budget in words, and the GPUs, if any, that it was trained on."""
    known = [
        ", ".join(dict.fromkeys(v for v in group[name].dropna().astype(str) if v))
        for name in ("dataset", "profile")
        if name in group
    ]
    for name in ("budget.steps", "budget.batch_size"):
        values = sorted(set(group[name].dropna())) if name in group else []
        if len(values) == 1:
            known.append(f"{name.removeprefix('budget.').replace('_', ' ')} {values[0]:.0f}")
    if most := finite(group, "environment.per_gpu").max(initial=0, where=shares_gpu(group)):
        known.append(f"{most:.0f} trainings to a GPU, none of which is judged by its time")
    devices = list(group.get("environment.device", pd.Series(dtype=str)).dropna().unique())
    known += [f"on {', '.join(devices)}"] if set(devices) - {"cpu"} else []
    return " · ".join(part for part in known if part)


def _machine(cells: pd.DataFrame) -> str:
    """Describe the machine that the cells were trained on in words."""
    found = []
    for name in ("device", "cpu", "cores", "threads", "torch", "python"):
        column = f"environment.{name}"
        values = list(cells[column].dropna().unique()[:4]) if column in cells else []
        shown = ", ".join(text.number(float(v)) if text.finite(v) else str(v) for v in values)
        if shown:
            found.append(f"{shown} {name}" if name in ("cores", "threads") else f"{name} {shown}")
    return " · ".join(found)


def _lines(curves: pd.DataFrame, wanted: set[str]) -> figures.Lines:
    """Return the curves of the wanted cells by id."""
    kept = curves[curves["id"].isin(wanted)]
    return {str(name): line for name, line in kept.groupby("id", sort=False, observed=True)}


def _images(
    group: pd.DataFrame, images: Mapping[str, bytes], budget: list[int]
) -> list[dict[str, Any]]:
    """The best cells' PNGs as data URIs while ``budget``, in bytes of page, lasts."""
    found: list[dict[str, Any]] = []
    own = group[group["id"].isin(images.keys())]
    for row in text.plain(own[["id", "metric", "quality"]]):
        data = images[row["id"]]
        size = 4 * len(data) // 3
        if len(found) == IMAGES or not data.startswith(PNG) or size > budget[0]:
            continue
        budget[0] -= size
        width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
        uri = "data:image/png;base64," + base64.b64encode(data).decode()
        found.append({**row, "uri": uri, "width": width, "height": height})
    return found
