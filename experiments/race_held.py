"""Hold a race's answers against other seeds: is what it dropped worse there, and by how much?

``python experiments/race_held.py ANSWERS --seeds 6`` trains every recipe of an answers.csv with so
many seeds that the race has not seen, block by block, in ``results/race-held`` (it may be stopped,
and goes on), and prints a Markdown table: by how much each recipe is behind the race's leader by
validation, in the race and on the other seeds. For the built-in topics and their own data.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from harness.cell import FP32, Cell, Status
from harness.race.statistic import mean_interval
from harness.runs import Run
from harness.topics.registry import registered_topics

FOLDER = Path("results/race-held")
FIRST_SEED = 2000  # a race's own count from 0, its fresh ones from 1000


def train(answers: pd.DataFrame, seeds: int) -> np.ndarray:
    """Return validation values, larger being better, by seed and recipe; NaN where none trained."""
    topics = registered_topics()
    run = Run(FOLDER, topics, "race", choosing=True)
    values_SK = np.full((seeds, len(answers)), np.nan)
    sign = np.where(answers["direction"] == "max", 1, -1)
    try:
        for seed in range(seeds):
            cells = [
                Cell(
                    *(row.topic, row.model, row.loss, row.schedule),
                    rate=row.rate,
                    seed=FIRST_SEED + seed,
                    precision=getattr(row, "precision", FP32),
                )
                for row in answers.itertuples()
            ]
            print(run.start(cells), flush=True)
            run.finish()
            for at, (cell, metric) in enumerate(zip(cells, answers["metric"], strict=True)):
                record = run.records[cell]
                if record.status is Status.DONE:
                    values_SK[seed, at] = sign[at] * record.validation[metric]
    finally:
        run.close()
    return values_SK


def held(answers: pd.DataFrame, values_SK: np.ndarray) -> Iterator[str]:
    """Yield the lines of the table, the race's leader first, and what they come to."""
    behind_SK = values_SK[:, [0]] - values_SK
    yield "| recipe | verdict | behind in the race | behind on other seeds |"
    yield "|---|---|---|---|"
    inside = 0
    for at, row in enumerate(answers.itertuples()):
        there = mean_interval(behind_SK[~np.isnan(behind_SK[:, at]), at], 0.05)
        inside += at > 0 and row.behind_low <= there.mean <= row.behind_high
        race = f"{row.behind:.3g} ({row.behind_low:.3g} to {row.behind_high:.3g})"
        other = f"{there.mean:.3g} ({there.low:.3g} to {there.high:.3g})"
        yield f"| {row.loss}/{row.schedule} | {row.verdict} | {race} | {other} |"
    mean_K = np.nanmean(behind_SK, axis=0)
    worse = (answers["verdict"] == "worse").to_numpy()
    margin = answers["margin"].iloc[0]
    yield ""
    seeds = len(values_SK)
    yield f"{inside} of {len(answers) - 1} intervals hold the mean over {seeds} other seeds."
    yield (
        f"Of {worse.sum()} recipes called worse {(mean_K[worse] > 0).sum()} are behind there, "
        f"{(mean_K[worse] > margin).sum()} by more than the margin of {margin:.3g}; "
        f"the leader is {max(0.0, -mean_K.min()):.3g} behind the best one there."
    )


def main() -> None:
    """Read the command line, train and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("answers", type=Path, help="answers.csv of a race of one topic")
    parser.add_argument("--seeds", type=int, default=6)
    chosen = parser.parse_args()
    answers = pd.read_csv(chosen.answers)
    if answers["topic"].nunique() > 1:
        parser.error(f"{chosen.answers} holds races of several topics: keep one's rows")
    if "settings" in answers and answers["settings"].notna().any():
        parser.error(f"{chosen.answers} was raced with settings: trainings here have none")
    for line in held(answers, train(answers, chosen.seeds)):
        print(line)


if __name__ == "__main__":
    main()
