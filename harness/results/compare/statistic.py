"""Decide what the seeds of two runs say of a metric, against the noise that seeds have.

Seeds count as independent: what a change of code does to a seed's rounding is another draw. Each
configuration (model, loss, schedule, rate, precision, swept settings, inexact parallel one) has a
test of its own, so that a fault in one loss is seen beside others that are as they were. Their mean
has one more, which knows that a seed's configurations go up and down together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from harness.cell import FP32, TIMES, Status
from harness.results.chance import holm
from harness.results.compare.noise import moderated
from harness.results.compare.rows import numbers, texts
from harness.results.verdict import Verdict

ALPHA = 0.05  # chance of any false alarm, for metrics, divergence, memory and speed each
POWER = 0.8  # at which a difference counts as one that the seeds could have shown
RELEVANT = 0.01  # of the baseline's mean: less is no difference, however certain
MARGIN = 0.05  # of what a metric wins over the untrained model: within it two runs are the same
FEWEST = 5  # configurations of one seed each whose differences say how much they scatter
# variance of a mean over recipes, over that of independent ones, and the seeds that this counts
INFLATION, SEEDS = 2.0, 8
SHARED = 0.3  # correlation of a model's recipes of one seed: what equal code changes in them
PAIRED = 0.02  # of the variance of unpaired seeds: less is no certainty
AXES = ("model", "loss", "schedule")


@dataclass(frozen=True)
class Difference:
    """How a metric of a configuration, or its mean over all of a topic's, differs in two runs.

    name: the configuration's; empty for the mean over all. baseline, candidate: means over seeds.
    error and df: the difference's standard error and its degrees of freedom. one_seed: whether the
    error knows nothing of seeds: then what one seed does to all cells alike is in the value too. A
    configuration of one seed has an infinite error.
    """

    name: str
    baseline: float
    candidate: float
    error: float
    df: float
    one_seed: bool = False

    @property
    def value(self) -> float:
        """The candidate's mean less the baseline's."""
        with np.errstate(over="ignore"):
            return float(np.subtract(self.candidate, self.baseline))

    @property
    def alone(self) -> bool:
        """Whether it is of one configuration's only seed, which tells no change from chance."""
        return self.one_seed and bool(self.name)

    @property
    def p(self) -> float:
        """The two-sided p-value of Student's t."""
        if self.value == 0:
            return 1.0
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.df)) if self.error else 0.0

    def relevant(self, margin: float) -> bool:
        """Whether it is over 1 % of the baseline's mean; of one seed, over a metric's margin."""
        bound = RELEVANT * abs(self.baseline)
        return abs(self.value) > (max(bound, margin) if self.one_seed else bound)

    def within(self, margin: float) -> bool:
        """Whether the true difference is within a margin: two one-sided tests (Schuirmann 1987)."""
        return abs(self.value) + stats.t.ppf(1 - ALPHA, self.df) * self.error <= margin

    def smallest(self, level: float) -> float:
        """Return the difference that would have been found with POWER, tested at ``level``."""
        quantiles = stats.t.ppf(1 - level / 2, self.df) + stats.t.ppf(POWER, self.df)
        return float(quantiles * self.error)


def values(cells: pd.DataFrame, metric: str) -> np.ndarray:
    """Return a metric of trained cells; one that diverged is worth what it was untrained."""
    diverged = (texts(cells, "status") == Status.DIVERGED).to_numpy()
    return np.where(diverged, numbers(cells, f"baseline.{metric}"), measured(cells, metric))


def measured(cells: pd.DataFrame, metric: str) -> np.ndarray:
    """Return a metric of cells that are done, NaN where it was not measured.

    A number of steps to something that was never reached is all the steps that there were.
    """
    found = numbers(cells, f"metric.{metric}")
    if not metric.startswith(TIMES):
        return found
    return np.where(np.isnan(found), numbers(cells, "evaluation.env_steps"), found)


def differences(cells: pd.DataFrame, pair: tuple[np.ndarray, np.ndarray]) -> list[Difference]:
    """Return how a topic's metric differs: in each configuration with seeds to spare, and in all.

    pair: the finite values of both runs, row by row those of ``cells``. Cells of one seed that
    promise to be the same training (parallel configurations with exact parity) count once.
    Configurations of one seed that changed and that no mean holds come first (``alone``). Empty
    where no configuration has two seeds and they are fewer than FEWEST.
    """
    a_N, b_N = pair
    scale = (
        max(np.abs(a_N).max(initial=0), np.abs(b_N).max(initial=0)) or 1.0
    )  # so no square is inf
    frame = pd.DataFrame(
        {
            "name": configurations(cells),
            "seed": texts(cells, "seed"),
            "a": a_N / scale,
            "b": b_N / scale,
            "changed": a_N != b_N,
        }
    )
    seeds = frame.groupby(["name", "seed"], sort=False).mean().reset_index()
    every = [(str(name), own) for name, own in seeds.groupby("name", sort=False)]
    groups = [(name, own) for name, own in every if len(own) > 1]
    models = dict(zip(frame["name"], texts(cells, "model"), strict=True))
    whole = [] if 2 * len(groups) > len(every) else _over_cells(every, models, scale)
    if not groups:
        return whole
    count_G = np.array([len(own) for _, own in groups])
    means = [(own["a"].mean(), own["b"].mean()) for _, own in groups]
    raw_G = np.array([(own["a"].var() + own["b"].var()) / 2 for _, own in groups])
    noise = moderated(raw_G, 2 * (count_G - 1))
    squared_G = noise.variances * 2 / count_G
    each = [
        Difference(name, a * scale, b * scale, math.sqrt(squared) * scale, df)
        for (name, _), (a, b), squared, df in zip(groups, means, squared_G, noise.df, strict=True)
    ]
    if whole:
        return [*each, *whole]
    each = [*_alone(every, scale), *each]
    if len(groups) == 1:
        return each
    mean_a, mean_b = np.mean(means, axis=0) * scale
    error, df = _together(pd.concat([own for _, own in groups]), squared_G)
    return [*each, Difference("", mean_a, mean_b, error * scale, df)]


def _together(seeds: pd.DataFrame, squared_G: np.ndarray) -> tuple[float, float]:
    """Return the standard error of the mean difference over configurations, and its df.

    seeds: a row for each configuration (name) and seed, with both runs' values, a and b. squared_G:
    the configurations' own squared errors, in their order. What a seed has in common, as its part
    of the data, is in both runs: so their differences scatter; by less than PAIRED of what unpaired
    seeds do they count as a tie of rounded values. Those of one seed's configurations share its
    weights and order and go up and down together: the error is that of independent ones times an
    inflation, estimated from the sums over each seed and drawn towards INFLATION, as if SEEDS more
    had been seen.
    """
    apart = seeds["b"] - seeds["a"]
    by_name = apart.groupby(seeds["name"], sort=False)
    count_G, squared_G = by_name.size().to_numpy(), squared_G / len(squared_G) ** 2
    part = (apart - by_name.transform("mean")) / by_name.transform("size") / len(squared_G)
    sums_G = (part**2).groupby(seeds["name"], sort=False).sum().to_numpy()
    alone_G = sums_G * count_G / (count_G - 1)
    by_seed = part.groupby(seeds["seed"]).sum()
    df = len(by_seed) - 1
    inflation = INFLATION
    if alone := alone_G.sum():
        inflation = float((by_seed**2).sum()) * (1 + 1 / df) / alone
    inflation = (SEEDS * INFLATION + df * inflation) / (SEEDS + df)
    alone_G = np.maximum(alone_G, PAIRED * squared_G)
    if not (alone := alone_G.sum()):
        return 0.0, float(df)
    spare = alone**2 / (alone_G**2 / (count_G - 1)).sum()  # Satterthwaite 1946
    return math.sqrt(alone * inflation), float(min(SEEDS + df, spare))


def _alone(every: list[tuple[str, pd.DataFrame]], scale: float) -> list[Difference]:
    """Return how configurations of one seed differ whose values are not bit for bit the same."""
    some = [(name, own.iloc[0]) for name, own in every if len(own) == 1 and own["changed"].any()]
    return [
        Difference(name, own["a"] * scale, own["b"] * scale, math.inf, 0, one_seed=True)
        for name, own in some
    ]


def _over_cells(
    every: list[tuple[str, pd.DataFrame]], models: Mapping[str, str], scale: float
) -> list[Difference]:
    """Return the mean over configurations of one seed, against how much their differences scatter.

    None of fewer than FEWEST. It sees what happens to all alike; a fault in one is noise to it.
    A model's cells share their seed, and with it initial weights and order, so that they go up and
    down together: how much is not to be seen in one seed, and SHARED is taken, of which they
    scatter the less. What they scatter by is no more than the baseline's values do, in both runs: a
    fault in proportion to a value scatters more. models: by configuration.
    """
    if len(every) < FEWEST:
        return []
    counts = Counter(models[name] for name, _ in every).values()
    beside = sum(count**2 for count in counts) / len(every) - 1  # of a configuration's own model
    inflation = (1 + SHARED * beside) / (1 - SHARED * beside / (len(every) - 1))
    a_G, b_G = (np.array([own[side].mean() for _, own in every]) * scale for side in "ab")
    apart = (((b_G - a_G) / scale).var(ddof=1), 2 * (a_G / scale).var(ddof=1))
    error = scale * math.sqrt(min(apart) * inflation / len(every))
    means = float(a_G.mean()), float(b_G.mean())
    return [Difference("", *means, float(error), len(every) - 1, one_seed=True)]


def configurations(cells: pd.DataFrame) -> pd.Series:
    """Return the name of each cell's configuration, such as ``vgg11-ce-cosine``."""
    rate = texts(cells, "rate").map(lambda text: "" if text in ("", "1.0") else f"r{text}")
    exact = texts(cells, "parity.exact") == "True"
    ranks = texts(cells, "parallel").where(~exact, "").replace("single", "")
    precise = texts(cells, "precision").replace(FP32, "")
    rest = {
        "p": ranks,
        "b": precise,
        "r": rate,
        "s": texts(cells, "settings").str.replace(" ", "-"),
    }
    parts = pd.DataFrame({name: texts(cells, name) for name in AXES} | rest)
    return parts.apply(lambda row: "-".join(part for part in row if part), axis=1)


class Certain(NamedTuple):
    """The differences that are beyond chance, and the level of the strictest test.

    Of means over all (whole), and of single configurations (each).
    """

    found: set[Difference]
    whole: float
    each: float

    def level(self, one: Difference) -> float:
        """Return the level of the strictest test of such a difference."""
        return self.each if one.name else self.whole


def certain(some: Iterable[Difference]) -> Certain:
    """Return the differences that are beyond chance, all together at ALPHA.

    Half of it is for the means over all, the other half for single configurations, each corrected
    for how many they are (Holm 1979): so a few means are not held to the many others' level.
    """
    tested = [one for one in some if not one.alone]
    families = [[one for one in tested if bool(one.name) is named] for named in (False, True)]
    alpha = ALPHA / max(1, sum(map(bool, families)))
    found: set[Difference] = set()
    for family in families:
        corrected = holm(np.array([one.p for one in family], float))
        found |= {one for one, p in zip(family, corrected, strict=True) if p <= alpha}
    return Certain(found, *(alpha / max(1, len(family)) for family in families))


def margin(baseline: pd.DataFrame, metric: str) -> float:
    """Return within what a metric of two runs counts as the same.

    MARGIN of what the cells win over untrained models; where that is not known, of their mean.
    """
    values = measured(baseline, metric)
    gain = np.abs(values - numbers(baseline, f"baseline.{metric}"))
    gain = gain[np.isfinite(gain)]
    return MARGIN * float(gain.mean() if len(gain) and gain.mean() else np.abs(values).mean())


def beyond(difference: float, bound: float, higher: bool) -> Verdict:
    """Return the verdict for a difference, ``same`` if it is within ``bound``."""
    if abs(difference) <= bound:
        return Verdict.SAME
    return Verdict.BETTER if (difference > 0) == higher else Verdict.WORSE
