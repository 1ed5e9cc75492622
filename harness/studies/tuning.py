"""Find the learning rate that serves each recipe: whole trainings at growing budgets.

The rate is a nuisance parameter: recipes compare fairly when each is tuned (Godbole et al. 2023,
the tuning playbook). Of six rates, half a decade apart, the best ones of a ninth of the steps train
on a third, and the best of these on all, where the topic's own rate joins them: what is best on a
ninth of the steps need not be on all (a VAE's is not). A schedule is shrunk with its budget, never
cut off, since a decay pays late. Rates are told apart by validation data alone: by the metric that
the model is judged by, and where that is equal, as an accuracy that none reaches so early, by the
topic's next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import pandas as pd
import torch

from harness.cell import Cell, Status
from harness.files import write_atomically
from harness.rates.table import KEY, Recipe, recipe
from harness.results.record import Record
from harness.runs import Run
from harness.settings import Settings
from harness.training.topic import Topic
from harness.trial import cost

LADDER = (1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
GRID = LADDER[3:9]
OWN = 1.0
RUNGS = {9: 3, 3: 2, 1: 1}  # how many rates are left after trainings of so small a share


class Trial(NamedTuple):
    """One training of the search: of a recipe at a rate, on a share of the steps, and its value.

    value: of the metric that the model is judged by, on validation data; NaN if it diverged or
    failed. second: of the topic's next metric, NaN where it has none.
    """

    recipe: Recipe
    rate: float
    share: int
    seed: int
    status: str
    value: float
    second: float


def tune(
    topics: Mapping[str, Topic],
    recipes: Iterable[Cell],
    folder: Path,
    profile: str = "quick",
    seeds: int = 1,
    report: Callable[[str], None] = print,
    device: str = "",
    per_gpu: int = 1,
    settings: Settings | None = None,
) -> Path:
    """Find a rate for each recipe, and return the table of rates that is written to ``folder``.

    recipes: a cell of each. Beside ``rates.csv`` is ``trials.csv``, all that was trained for it;
    both grow topic by topic. What was trained before with the same fingerprint is used again.
    """
    by_topic: dict[str, list[Cell]] = {}
    for cell in dict.fromkeys(recipes):
        by_topic.setdefault(cell.topic, []).append(cell)
    trials: list[Trial] = []
    table = folder / "rates.csv"
    for name, cells in by_topic.items():
        topic = topics[name]
        left = {cell: list(GRID) for cell in cells}
        for share, kept in RUNGS.items():
            if share == 1:
                left = {cell: list(dict.fromkeys([*rates, OWN])) for cell, rates in left.items()}
            report(f"{name}: rates of {len(cells)} recipes, on 1 in {share} of the steps")
            run = Run(
                folder / f"1-in-{share}",
                {name: topic},
                profile,
                share=share,
                choosing=True,
                report=report,
                device=device,
                per_gpu=per_gpu,
                settings=settings or Settings(),
            )
            found = _rung(run, left, range(seeds), widen=share == max(RUNGS))
            trials += found
            for cell in cells:
                own = [trial for trial in found if trial.recipe == recipe(cell)]
                left[cell] = ranked(own, directions(topic, cell.model))[:kept]
        _write(folder, trials, topics)
    return table


def _rung(
    run: Run, left: Mapping[Cell, Sequence[float]], seeds: Iterable[int], widen: bool
) -> list[Trial]:
    """Train each recipe at its rates with each seed, and return the trials.

    widen: go on beyond the grid as long as a recipe's best rate lies at its end.
    """
    seeds = list(seeds)
    rates = {cell: sorted(some) for cell, some in left.items()}
    trials: list[Trial] = []
    new = {cell: list(some) for cell, some in rates.items()}
    try:
        while new:
            cells = [
                replace(cell, rate=rate, seed=seed)
                for cell, some in new.items()
                for rate in some
                for seed in seeds
            ]
            run.report(run.start(cells))
            run.finish()
            trials += [
                _trial(run.records[cell], run.topic(cell), run.share)
                for cell in cells
                if cell in run.records
            ]
            new = {}
            for cell in rates if widen else ():
                own = [trial for trial in trials if trial.recipe == recipe(cell)]
                beyond = outside(rates[cell], own, directions(run.topics[cell.topic], cell.model))
                if beyond is not None:
                    new[cell] = [beyond]
                    rates[cell] = sorted([*rates[cell], beyond])
    finally:
        run.close()
    return trials


def outside(
    rates: Sequence[float], trials: Sequence[Trial], better: Sequence[str]
) -> float | None:
    """Return the next rate beyond the end where the best one lies; None if it lies inside."""
    order = ranked(trials, better)
    if not order or order[0] not in (rates[0], rates[-1]):
        return None
    beyond = LADDER.index(order[0]) + (1 if order[0] == rates[-1] else -1)
    return LADDER[beyond] if 0 <= beyond < len(LADDER) else None


def ranked(trials: Sequence[Trial], better: Sequence[str]) -> list[float]:
    """Return the rates of trials, best mean values first; of equal ones the nearest to 1.

    better: ``max`` or ``min`` of the values, and of the second ones, which count where values are
    equal. A rate at which a training came to nothing comes after all others, one at which all did
    is left out.
    """
    by_rate: dict[float, list[Trial]] = {}
    for trial in trials:
        by_rate.setdefault(trial.rate, []).append(trial)
    signs = [1 if one == "max" else -1 for one in better]

    def worth(rate: float) -> tuple[float, float, float, float]:
        whole = [trial for trial in by_rate[rate] if not math.isnan(trial.value)]
        value = signs[0] * mean(trial.value for trial in whole)
        second = mean(trial.second for trial in whole)
        told = -math.inf if math.isnan(second) else signs[-1] * second
        return len(whole) / len(by_rate[rate]), value, told, -abs(math.log(rate))

    alive = [rate for rate, own in by_rate.items() if not all(math.isnan(t.value) for t in own)]
    return sorted(alive, key=worth, reverse=True)


def _processor() -> str:
    """Return the name of what trained: the GPU, if there is one that is not hidden."""
    here = cost.environment("cuda" if torch.cuda.is_available() else "cpu")
    return str(here["cpu"] if here["device"] == "cpu" else here["device"])


def evidence(trials: Sequence[Trial], topics: Mapping[str, Topic]) -> pd.DataFrame:
    """Return the table of rates: of each recipe the rate that won, and what speaks for it.

    value: its validation mean on all steps, NaN where no rate came so far; then rate is 1. tried:
    how many trainings it took, and diverged how many of them did. date, processor and torch: of
    the search.
    """
    rows = []
    made = {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "torch": torch.__version__,
    }
    for key in dict.fromkeys(trial.recipe for trial in trials):
        own = [trial for trial in trials if trial.recipe == key]
        topic, model = topics[key[0]], key[1]
        last = [trial for trial in own if trial.share == 1]
        order = ranked(last, directions(topic, model))
        best = order[0] if order else 1.0
        values = [trial.value for trial in last if trial.rate == best]
        found = {
            "rate": best,
            "metric": topic.judged_by(model)[0],
            "value": mean(values) if values else math.nan,
            "seeds": len({trial.seed for trial in own}),
            "tried": len(own),
            "diverged": sum(trial.status == Status.DIVERGED for trial in own),
        }
        rows.append(dict(zip(KEY, key, strict=True)) | found | made)
    return pd.DataFrame(rows)


def directions(topic: Topic, model: str) -> list[str]:
    """Return ``max`` or ``min`` of the metrics that tell a model's rates apart, one or two."""
    return [topic.directions[name] for name in _metrics(topic, model)]


def _metrics(topic: Topic, model: str) -> list[str]:
    """Return the metric that a model is judged by, and the topic's next one, if it has one."""
    return list(dict.fromkeys([topic.judged_by(model)[0], *topic.directions]))[:2]


def _trial(record: Record, topic: Topic, share: int) -> Trial:
    """Return what one training of the search found."""
    cell = record.cell
    assert cell.rate is not None
    measured = record.validation or record.metrics
    if record.status is not Status.DONE:
        measured = {}
    names = _metrics(topic, cell.model)
    value, second = (measured.get(name, math.nan) for name in (names[0], names[-1]))
    second = second if names[1:] else math.nan
    return Trial(recipe(cell), cell.rate, share, cell.seed, str(record.status), value, second)


def _write(folder: Path, trials: Sequence[Trial], topics: Mapping[str, Topic]) -> None:
    """Write the table of rates and all trials as CSV files."""
    rows = []
    for trial in trials:
        topic, model = topics[trial.recipe[0]], trial.recipe[1]
        by = {"metric": topic.judged_by(model)[0], "direction": directions(topic, model)[0]}
        rows.append(dict(zip(KEY, trial.recipe, strict=True)) | trial._asdict() | by)
    every = pd.DataFrame(rows).drop(columns="recipe")
    for name, table in (("trials", every), ("rates", evidence(trials, topics))):
        text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
        write_atomically(folder / f"{name}.csv", text.encode())
