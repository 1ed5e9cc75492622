"""Which learning rates a search tries, and which one it tries next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, median, stdev
from typing import NamedTuple

from harness.rates.table import Recipe

LADDER = (1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
GRID = LADDER[3:9]
OWN = 1.0
CONFIRMED = 3  # seeds of a rate that is chosen, at the least


class Trial(NamedTuple):
    """One training of the search: of a recipe at a rate, on a share of the steps, and its value.

    value: of the metric that the model is judged by, on validation data; NaN if the training
    diverged or failed, or it is not finite. second: of the topic's next metric, negative where less
    of it is better; NaN if there is none.
    """

    recipe: Recipe
    rate: float
    share: int
    seed: int
    status: str
    value: float
    second: float


def beyond(
    trials: Sequence[Trial], better: str, seeds: Sequence[int], _: float
) -> list[tuple[float, int]]:
    """Return the next rate, with each seed, beyond the end where the best one of trials lies."""
    rate = outside(sorted({trial.rate for trial in trials}), trials, better)
    return [] if rate is None else [(rate, seed) for seed in seeds]


def confirming(
    trials: Sequence[Trial], better: str, seeds: Sequence[int], scatter: float
) -> list[tuple[float, int]]:
    """Return the rates of trials that may be the best, with the seeds that each is to have.

    The best one, so that no rate wins by luck, and those that are behind it, on the seeds that both
    have, by no more than seeds scatter: with seeds of their own they would be told apart by which
    seeds are easy. scatter: a standard deviation, NaN as long as none is known.
    """
    rates = ranked(trials, better)
    near = [rate for rate in rates[1:] if _behind(trials, rate, rates[0], better) <= scatter]
    return [(rate, seed) for rate in rates[:1] + near for seed in range(max(CONFIRMED, len(seeds)))]


def _behind(trials: Sequence[Trial], rate: float, best: float, better: str) -> float:
    """Return by how much a rate is behind the best on the seeds that both have; inf without any."""
    by_seed = {
        at: {t.seed: t.value for t in trials if t.rate == at and not math.isnan(t.value)}
        for at in (rate, best)
    }
    sign = 1 if better == "max" else -1
    both = by_seed[rate].keys() & by_seed[best].keys()
    differences = [sign * (by_seed[best][seed] - by_seed[rate][seed]) for seed in both]
    return mean(differences) if differences else math.inf


def scatter(trials: Sequence[Trial]) -> float:
    """Return by how much seeds scatter the values of one recipe at one rate; NaN if none has two.

    A standard deviation: the median over recipes and rates, so that a ruined training counts once.
    """
    by_rate: dict[tuple[Recipe, float], list[float]] = {}
    for trial in trials:
        if not math.isnan(trial.value):
            by_rate.setdefault((trial.recipe, trial.rate), []).append(trial.value)
    found = [stdev(values) for values in by_rate.values() if len(values) > 1]
    return median(found) if found else math.nan


def outside(rates: Sequence[float], trials: Sequence[Trial], better: str) -> float | None:
    """Return the next rate beyond the end where the best one lies; None if it lies inside."""
    order = ranked(trials, better)
    if not order or order[0] not in (rates[0], rates[-1]):
        return None
    index = LADDER.index(order[0]) + (1 if order[0] == rates[-1] else -1)
    return LADDER[index] if 0 <= index < len(LADDER) else None


def ranked(trials: Sequence[Trial], better: str) -> list[float]:
    """Return the rates of trials, best mean value first; of equal ones the nearest to 1.

    Where values are equal, the second ones count first. A rate at which a training came to nothing,
    or to no finite value, comes after all others, one at which all did is left out.
    """
    by_rate: dict[float, list[Trial]] = {}
    for trial in trials:
        by_rate.setdefault(trial.rate, []).append(trial)
    sign = 1 if better == "max" else -1

    def worth(rate: float) -> tuple[float, float, float, float]:
        whole = [trial for trial in by_rate[rate] if not math.isnan(trial.value)]
        value = mean(trial.value for trial in whole)
        second = mean(trial.second for trial in whole)
        told = -math.inf if math.isnan(second) else second
        return len(whole) / len(by_rate[rate]), sign * value, told, -abs(math.log(rate))

    alive = [rate for rate, own in by_rate.items() if not all(math.isnan(t.value) for t in own)]
    return sorted(alive, key=worth, reverse=True)
