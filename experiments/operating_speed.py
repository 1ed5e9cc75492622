"""Print how often ``compare`` calls equal speeds different, and sees steps that are slower.

``python experiments/operating_speed.py [--runs 20] [--topics gan regression vgg] [--load 0]`` times
these topics as ``experiments/test_speed.py`` does, in PROCESSES processes a run: as they are, and
with steps that spend 10 and 20 % of their own time once more doing nothing. Rows are added to
``results/operating/speed.csv`` as they come: the same call goes on where it was stopped, and with
another ``--load``, of so many processes that keep a core busy beside it, it adds to the same file.

The table compares all pairs of distinct runs, by how many of their processes count. False alarms:
the share of pairs of equal runs with any model better or worse. Seen: the share of slowed models
that are worse. Below each topic: the root mean square difference of its steps in two equal runs.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.results.compare import speed as judged
from harness.results.verdict import Verdict
from harness.runs import Run
from harness.studies import speed
from harness.topics.registry import registered_topics
from harness.training.loop import Training
from harness.trial.task import Task

PROCESSES = 12
COUNTED = (3, 6, 12)
FACTORS = (1.0, 1.1, 1.2)
CERTAIN = (Verdict.WORSE, Verdict.BETTER)
FOLDER = Path("results/operating")


def slowed(factor: float) -> speed.Times:
    """Return what times a recipe whose steps take ``factor`` times as long as they do."""

    def times(task: Task, rank: int) -> list[dict[str, Any]]:
        advance = Training.advance

        def slow(training: Training) -> None:
            begun = time.thread_time()
            advance(training)
            until = time.thread_time() + (factor - 1) * (time.thread_time() - begun)
            while time.thread_time() < until:
                pass

        Training.advance = slow  # type: ignore[method-assign]
        try:
            return speed.times(task, rank)
        finally:
            Training.advance = advance  # type: ignore[method-assign]

    return speed.times if factor == 1 else times


def busy() -> None:
    """Keep a core busy, with more memory than it has caches for."""
    numbers = np.ones(4_000_000)
    while True:
        sum(number * number for number in range(100_000))
        numbers *= 1.0


@contextmanager
def load(count: int) -> Iterator[None]:
    """Have so many busy processes beside the block."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=busy, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def measure(path: Path, topics: list[str], runs: int, beside: int) -> None:
    """Add to the file what it lacks of so many runs at each of FACTORS, with this load."""
    known = registered_topics()
    run = Run(FOLDER, {name: known[name] for name in topics}, "quick")
    tasks = speed.tasks_of(run)
    done = set()
    if path.exists():
        timed = pd.read_csv(path)
        if set(timed["topic"]) != set(topics):
            raise SystemExit(f"{path} has other topics: move it aside, or name those it has")
        keys = timed[["load", "run", "factor", "process"]].drop_duplicates()
        done = set(keys.itertuples(index=False, name=None))
    whole = list(itertools.product([beside], range(runs), FACTORS, range(PROCESSES)))
    for key in (key for key in whole if key not in done):
        about = dict(zip(("load", "run", "factor", "process"), key, strict=True))
        rows = [about | row for row in speed.in_a_fresh_process(tasks, slowed(about["factor"]))]
        text = pd.DataFrame(rows).to_csv(index=False, header=not path.exists())
        with path.open("a") as file:
            file.write(text)
        print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)


def table(timed: pd.DataFrame) -> Iterator[str]:
    """Yield the lines of the table."""
    slower = [f"seen {factor - 1:.0%} slower" for factor in FACTORS[1:]]
    topics = sorted(timed["topic"].unique())
    head = ["load", "processes", "runs", "false alarms", *slower, *topics]
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for (beside, own), count in itertools.product(timed.groupby("load"), COUNTED):
        runs = {key: one for key, one in own.groupby(["factor", "run"]) if _has(one, count)}
        runs = {key: one[one["process"] < count] for key, one in runs.items()}
        equal = [number for factor, number in runs if factor == 1]
        alike = [
            list(judged.rows(runs[1, a], runs[1, b])) for a, b in itertools.combinations(equal, 2)
        ]
        if not alike:
            continue
        alarms = [any(row.verdict in CERTAIN for row in rows) for rows in alike]
        shares = [np.mean(alarms)]
        for factor in FACTORS[1:]:
            others = [number for other, number in runs if other == factor]
            found = [
                row.verdict == Verdict.WORSE
                for a, b in itertools.product(equal, others)
                if a != b
                for row in judged.rows(runs[1, a], runs[factor, b])
            ]
            shares.append(np.mean(found) if found else np.nan)
        for topic in topics:
            own_rows = [row for rows in alike for row in rows if row.topic == topic]
            logs = [np.log(row.candidate / row.baseline) for row in own_rows]
            shares.append(np.sqrt(np.mean(np.square(logs))))
        told = [f"{share:.1%}" for share in shares]
        yield f"| {beside} | {count} | {len(equal)} | {' | '.join(told)} |"


def _has(run: pd.DataFrame, count: int) -> bool:
    """Whether a run has its first ``count`` processes."""
    return set(range(count)) <= set(run["process"])


def main() -> None:
    """Read the command line, measure what lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--topics", nargs="+", default=["gan", "regression", "vgg"])
    parser.add_argument("--load", type=int, default=0)
    chosen = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "speed.csv"
    with load(chosen.load):
        measure(path, chosen.topics, chosen.runs, chosen.load)
    for line in table(pd.read_csv(path)):
        print(line)


if __name__ == "__main__":
    main()
