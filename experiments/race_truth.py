"""Race regression's recipes where the truth is known: a hundred seeds of each.

``python experiments/race_truth.py train --model linear`` trains every loss, schedule and rate on a
hundred seeds, in populations, and appends to ``results/race-truth/values.csv``; it may be stopped
and goes on. ``python experiments/race_truth.py race`` holds 200 races on these values, each with
its own order of seeds and a share of all trainings, and prints a Markdown table: how often the true
best is kept, how often the intervals hold, and how many recipes are left.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from operating_race import Tally

from harness.axes import losses, schedules
from harness.cell import Cell
from harness.matrix import skip_reason
from harness.race import fresh
from harness.race.course import MARGIN
from harness.race.procedure import Race
from harness.topics.regression import Regression
from harness.training.population.population import Population

VALUES = Path("results/race-truth/values.csv")
COLUMNS = ["model", "loss", "schedule", "rate", "seed", "validation", "test", "untrained"]
SEEDS = 100
FEWEST = 30  # that a truth is made of
TOGETHER = 12  # seeds of a population, under every schedule
RATES = (0.1, 0.3, 1.0, 3.0)


def train(path: Path, model: str, rates: list[float]) -> None:
    """Train a model's recipes on the seeds that the file does not have yet."""
    torch.set_num_threads(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(",".join(COLUMNS) + "\n")
    known = pd.read_csv(path, usecols=["model", "loss", "rate", "seed"]).drop_duplicates()
    have = set(known.itertuples(index=False, name=None))
    for first in range(0, SEEDS, TOGETHER):
        seeds = range(first, min(first + TOGETHER, SEEDS))
        for loss, rate in product(losses.FAMILIES, rates):
            left = [seed for seed in seeds if (model, loss, rate, seed) not in have]
            if left:
                with path.open("a", newline="") as file:
                    csv.writer(file).writerows(list(_rows(model, loss, rate, left)))
                print(f"{model} {loss} rate {rate:g} seeds {left[0]} to {left[-1]}", flush=True)


def _rows(model: str, loss: str, rate: float, seeds: list[int]) -> Iterator[list[object]]:
    """Train a loss at a rate under every schedule, as one population, and yield what it gives."""
    topic = Regression()
    every = [
        Cell(topic.name, model, loss, *own) for own in product(schedules.NAMES, ["single"], seeds)
    ]
    cells = [cell for cell in every if skip_reason(topic, cell) is None]
    budget = topic.budget("quick", model)
    population = Population(topic, cells, budget, rates=[rate] * len(cells))
    population.run(budget.steps)
    population.update_members()
    for member in population.members:
        cell = member.cell
        values: list[object] = [math.nan, math.nan]
        if cell not in population.ended:
            values = [member.validate()["mse"], member.evaluate()["mse"]]
        yield [model, loss, cell.schedule, rate, cell.seed, *values, topic.baseline(cell)["mse"]]


def races(path: Path, count: int, shares: list[float]) -> Iterator[str]:
    """Yield the lines of a table: a row for each model, of as many seeds as the file has."""
    yield (
        "| model | recipes | seeds | true best kept | one within the margin kept "
        "| intervals cover | left | share of all trainings |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    frame = pd.read_csv(path).drop_duplicates(["model", "loss", "schedule", "rate", "seed"])
    for model, own in frame.groupby("model", sort=False):
        table = own.pivot(index="seed", columns=["loss", "schedule", "rate"])
        whole = table["untrained"].dropna()  # seeds of which all recipes are there
        values_SK = -table["validation"].loc[whole.index].to_numpy()
        test_SK = -table["test"].loc[whole.index].to_numpy()
        plain = -own["untrained"].mean()
        for share in shares if len(whole) >= FEWEST else ():
            races = Races(np.nan_to_num(values_SK, nan=plain), test_SK, plain, share)
            rng = np.random.default_rng(0)
            for _ in range(count):
                races.race(rng.permutation(len(values_SK)))
            yield f"| {model} | {values_SK.shape[1]} | {len(values_SK)} | {races.shares(count)} |"


@dataclass
class Races:
    """Races on known values, larger being better, with counts of what they got right.

    values_SK: of S seeds and K recipes, to choose by; test_SK: to report, nan where a training
    diverged. untrained: the untrained network's value; share: of all trainings, those of a race.
    """

    values_SK: np.ndarray
    test_SK: np.ndarray
    untrained: float
    share: float
    tally: Tally = field(default_factory=Tally)
    trainings: int = 0

    def race(self, order: np.ndarray) -> None:
        """Hold a race whose blocks are the seeds in this order, and the fresh seeds those after."""
        seeds, count = self.values_SK.shape
        affordable = int(self.share * seeds * count)
        truth_K = self.values_SK.mean(axis=0)
        margin = MARGIN * (truth_K.max() - self.untrained)
        race = Race([str(arm) for arm in range(count)], margin)
        spent = 0
        while (
            race.blocks < seeds - fresh.MOST
            and not race.settled
            and (spent + len(race.left) + fresh.trainings(len(race.left)) <= affordable)
        ):
            spent += len(race.left)
            block_K = self.values_SK[order[race.blocks]]
            race.add({str(arm): value for arm, value in enumerate(block_K)})
        left = sorted(map(int, race.left), key=lambda arm: -race.standings[str(arm)].value)
        self.tally.ended(left, truth_K, margin)
        self.trainings += spent + self._report(race, left, order[race.blocks :], affordable - spent)

    def _report(self, race: Race, left: list[int], order: np.ndarray, affordable: int) -> int:
        """Count the intervals that hold over fresh seeds; return how many trainings that took."""
        arms = left[: max(1, affordable // fresh.LEAST)]
        seeds = order[: max(fresh.LEAST, min(fresh.MOST, affordable // len(arms)))]
        own_SK = self.test_SK[seeds]
        reports = fresh.reports({str(arm): own_SK[:, arm] for arm in arms}, race.leader)
        truth_K = np.nanmean(self.test_SK, axis=0)
        leader = int(race.leader)
        both_SK = self.test_SK[:, [leader]] - self.test_SK
        for arm in arms:
            found = reports[str(arm)]
            known = [(found.mean, truth_K[arm])]
            known += [(found.behind, np.nanmean(both_SK[:, arm]))] if arm != leader else []
            self.tally.reported(known)
        return len(arms) * len(seeds)

    def shares(self, count: int) -> str:
        """Return the row's cells."""
        own = self.tally
        kept, near = (f"{100 * number / count:.1f} %" for number in (own.kept, own.near))
        covered = f"{100 * own.covered / own.intervals:.1f} %"
        cost = f"{100 * self.trainings / count / self.values_SK.size:.1f} %"
        return f"{kept} | {near} | {covered} | {own.left / count:.1f} | {cost}"


def main() -> None:
    """Read the command line, and train or race."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "race"])
    parser.add_argument("--model", default="linear", choices=["linear", "svr", "mlp"])
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.3])
    parser.add_argument("--races", type=int, default=200)
    parser.add_argument("--values", type=Path, default=VALUES)
    chosen = parser.parse_args()
    if chosen.what == "train":
        train(chosen.values, chosen.model, list(chosen.rates))
    else:
        for line in races(chosen.values, chosen.races, list(chosen.shares)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
