"""Count how often ``harness compare`` sees faults that were planted in real trainings, by seeds.

``python experiments/operating_compare.py train`` trains what ``planted_faults.py`` says and appends
to ``results/operating/compare.csv``; it may be stopped and goes on. ``... table`` draws 200 pairs
of runs of 1 to 10 seeds from it, compares each, and prints a Markdown table.

Two runs of a pair share no seed, as after a change of code that draws other numbers, but train on
the same parts of the data, which such a change leaves alone.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from planted_faults import COLUMNS, FAULTS, POOLS, Pool, train

from harness.cell import Cell
from harness.results import tables
from harness.results.compare import Comparison, compare
from harness.results.verdict import Verdict
from harness.topics.folds import FOLDS

VALUES = Path("results/operating/compare.csv")
COUNTS = (1, 2, 3, 5, 10)  # seeds of a run
FACTOR = 1.1  # of a metric whose implementation is wrong
WORDS = {
    "none": "none",
    "other data": "none, other parts of the data",
    "rate": "learning rate halved",
    "targets": "5 % of training targets wrong",
    "metric": "{} judged 1.1 times too large",
    "loss": "{} wrong, no other loss",
    "schedule": "{} ends at 30 % of the rate",
}
ORDER = ["model", "loss", "schedule", "seed"]


def runs(path: Path, pool: Pool) -> dict[str, pd.DataFrame]:
    """Return by fault all cells of a pool, as one run of the seeds that every recipe has.

    Cells that a fault does not touch are those without a fault.
    """
    frame = pd.read_csv(path)
    starts = tuple(f"{pool.topic.name}/{model}-" for model in pool.models)
    frame = frame[frame["id"].str.startswith(starts)]
    cells = {fault: _cells(own, pool) for fault, own in frame.groupby("fault")}
    recipes = [own.groupby(ORDER[:3])["seed"].agg(set) for own in cells.values()]
    seeds = set.intersection(*pd.concat(recipes))
    plain = cells["none"]
    metric = f"metric.{pool.lies_in['metric']}"
    cells["metric"] = plain.assign(**{metric: FACTOR * plain[metric]})
    whole = {}
    for fault in FAULTS:
        own = pd.concat([cells[fault], plain]).drop_duplicates("id")
        whole[fault] = own[own["seed"].isin(seeds)].sort_values(ORDER, ignore_index=True)
    return whole


def _cells(frame: pd.DataFrame, pool: Pool) -> pd.DataFrame:
    """Return the cells of rows of the file as ``tables.cells`` does."""
    records = []
    for name, own in frame.groupby("id", sort=False):
        values, untrained = (dict(zip(own["metric"], own[c], strict=True)) for c in COLUMNS[4:])
        record = {"id": name, **asdict(Cell.parse(str(name))), "status": own["status"].iloc[0]}
        measured = {"metrics": values, "baseline": untrained, "directions": pool.topic.directions}
        records.append(record | measured)
    return tables.cells(records)


def drawn(cells: pd.DataFrame, places: Sequence[int], fingerprint: str) -> pd.DataFrame:
    """Return a run of the seeds at some places in the order of all, renamed to 0, 1, 2, ..."""
    count = cells["seed"].nunique()
    first = np.arange(0, len(cells), count)[:, None]
    run = cells.iloc[(first + np.array(places)).ravel()].reset_index(drop=True)
    named = cells.iloc[(first + np.arange(len(places))).ravel()]
    same = {name: named[name].to_numpy() for name in ("id", "seed")}
    return run.assign(**same, fingerprint=fingerprint)


def pairs(seeds: Sequence[int], parts: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return places of seeds, two of one part of the data together, first a pair of each part."""
    found = []
    for part in range(parts):
        own = rng.permutation([place for place, seed in enumerate(seeds) if seed % parts == part])
        both = zip(own[::2], own[1::2], strict=False)
        found += [(turn, rng.random(), int(a), int(b)) for turn, (a, b) in enumerate(both)]
    return [(a, b) for _, _, a, b in sorted(found)]


def seen(found: Comparison, name: str | None) -> tuple[bool, bool]:
    """Return whether anything is better or worse, and if so, whether it is in what has the fault.

    name: the loss, schedule or metric in question; None if the fault is in everything.
    """
    called = [row for row in found.rows if row.verdict in (Verdict.WORSE, Verdict.BETTER)]
    recipes = [recipe for row in called for recipe in re.findall(r"(\w+-\S+) [+-]", row.note)]
    metric = all(row.aspect == name for row in called)
    within = bool(recipes) and all(name in recipe.split("-") for recipe in recipes)
    return bool(called), bool(called) and (metric or within)


def shares(pool: Pool, whole: dict[str, pd.DataFrame], fault: str, count: int, draws: int) -> str:
    """Return in what share of draws of so many seeds a fault is seen, and named if it has a name.

    fault: *other data* is none, with any other seeds in the candidate, as all draws are from a pool
    that has not two seeds of each part of the data.
    """
    rng, name = np.random.default_rng(count), pool.lies_in.get(fault)
    tally = []
    before = whole["none"]
    after = whole.get(fault, before)
    seeds = sorted(before["seed"].unique())
    parts = 1 if fault == "other data" or len(seeds) < 2 * FOLDS else FOLDS
    for _ in range(draws):
        together = pairs(seeds, parts, rng)
        if len(together) < count:
            return "-"
        here, there = zip(*together[:count], strict=True)
        found = compare(drawn(before, here, "a"), drawn(after, there, "b"))
        tally.append(seen(found, name))
    all_seen, named = 100 * np.mean(tally, axis=0)
    return f"{all_seen:.0f} %" + (f" ({named:.0f} %)" if name else "")


def exact(pool: Pool, cells: pd.DataFrame, count: int, draws: int) -> str:
    """Return in what share of draws one bit of one cell is worse, and that cell alone named."""
    rng, right = np.random.default_rng(count), 0
    for _ in range(draws):
        places = rng.permutation(cells["seed"].nunique())[:count].tolist()
        run = drawn(cells, places, "a")
        other, cell = run.copy(), int(rng.integers(len(run)))
        metric = f"metric.{rng.choice(list(pool.topic.directions))}"
        other.loc[cell, metric] = np.nextafter(other.loc[cell, metric], np.inf)
        found = compare(run, other)
        named = [row.cells for row in found.rows if row.verdict == Verdict.WORSE]
        right += named == [(run.loc[cell, "id"],)]
    return f"{100 * right / draws:.0f} %"


def table(path: Path, names: Sequence[str], draws: int) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| topic | fault | " + " | ".join(f"{count} seeds" for count in COUNTS) + " |"
    yield "|---" * (2 + len(COUNTS)) + "|"
    for topic in names:
        pool, whole = POOLS[topic], runs(path, POOLS[topic])
        for fault, text in WORDS.items():
            cells = [shares(pool, whole, fault, count, draws) for count in COUNTS]
            told = text.format(pool.lies_in.get(fault))
            yield f"| {topic} | {told} | {' | '.join(cells)} |"
        most = whole["none"]["seed"].nunique()
        bits = [exact(pool, whole["none"], n, draws) if n <= most else "-" for n in COUNTS]
        yield f"| {topic} | one bit of one cell | {' | '.join(bits)} |"


def main() -> None:
    """Read the command line, and train or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "table"])
    parser.add_argument("--topics", nargs="+", default=list(POOLS), choices=list(POOLS))
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--values", type=Path, default=VALUES)
    chosen = parser.parse_args()
    if chosen.what == "train":
        for topic in chosen.topics:
            train(chosen.values, POOLS[topic])
    else:
        for line in table(chosen.values, chosen.topics, chosen.draws):
            print(line, flush=True)


if __name__ == "__main__":
    main()
