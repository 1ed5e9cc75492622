"""Find the learning rate that serves each recipe: whole trainings at growing budgets.

The rate is a nuisance parameter: recipes compare fairly when each is tuned (Godbole et al. 2023,
the tuning playbook). Of six rates, half a decade apart, the best ones of a ninth of the steps train
on a third, and the best of these on all, where the topic's own rate joins them: what is best on a
ninth of the steps need not be on all (a VAE's is not). A schedule is shrunk with its budget, never
cut off, since a decay pays late. A rate that serves one seed may ruin the next one: the best rate
trains with further seeds, then the one that is now the best and those that are behind it by no more
than seeds scatter, until all of these have as many. Rates are told apart by validation data
alone: by the metric that the model is judged by, and where that is equal, as an accuracy that none
reaches so early, by the topic's next one.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean

import pandas as pd
import torch

from harness.cell import Cell, Status, UsageError
from harness.files import write_atomically
from harness.rates.table import KEY, RATES, TRIALS, Recipe, recipe
from harness.results.record import Record
from harness.runs import Run
from harness.settings import Settings
from harness.studies.ladder import GRID, OWN, Trial, beyond, confirming, ranked, scatter
from harness.training.topic import Topic
from harness.trial import cost

RUNGS = {9: 3, 3: 2, 1: 1}  # how many rates are left after trainings of so small a share


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
    both grow topic by topic, and keep what earlier searches found for other recipes. seeds: of each
    training; the chosen rate has CONFIRMED or more. What was trained before with the same
    fingerprint is used again. Raises UsageError for earlier tables that cannot be read.
    """
    by_topic: dict[str, list[Cell]] = {}
    recipes = list(dict.fromkeys(recipes))
    for cell in recipes:
        by_topic.setdefault(cell.topic, []).append(cell)
    trials: list[Trial] = []
    table = folder / RATES
    earlier = {name: _earlier(folder / name) for name in (RATES, TRIALS)}
    if stay := len(_others(earlier[RATES], set(map(recipe, recipes)))):
        report(f"{table}: the rates of {stay} recipes of earlier searches stay")
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
            further = {max(RUNGS): beyond, 1: confirming}.get(share, lambda *_: [])
            found = _rung(run, left, range(seeds), further)
            trials += found
            for cell in cells:
                own = [trial for trial in found if trial.recipe == recipe(cell)]
                left[cell] = ranked(own, direction(topic, cell.model))[:kept]
        _write(folder, trials, topics, earlier, device)
        for line in summary([t for t in trials if t.recipe[0] == name], topics):
            report(line)
    return table


def summary(trials: Sequence[Trial], topics: Mapping[str, Topic]) -> list[str]:
    """Return the rates that trials speak for in lines to read, each model's best recipe first."""
    lines = []
    found = evidence(trials, topics)
    for name, model in dict.fromkeys(zip(found["topic"], found["model"], strict=True)):
        own = found[(found["topic"] == name) & (found["model"] == model)]
        metric, seeds = own["metric"].iloc[0], own["seeds"].max()
        lines.append(f"{name}/{model}: rate, and mean validation {metric} over {seeds} seeds")
        own = own.sort_values("value", ascending=direction(topics[name], model) == "min")
        for loss, schedule, rate, value in own[["loss", "schedule", "rate", "value"]].values:
            tried = [t.status for t in trials if t.recipe == (name, model, loss, schedule)]
            lost = tried.count(Status.UNMEASURED)
            nothing = "no rate is found" if lost else "nothing trains"
            told = nothing if math.isnan(value) else f"{rate:>6g} {value:.4g}"
            told += f" ({lost} of {len(tried)} trainings have no finite {metric})" if lost else ""
            lines.append(f"  {loss} {schedule}".ljust(28) + told)
    return lines


def _earlier(path: Path) -> pd.DataFrame:
    """Return an earlier search's table as it stands. Raises UsageError if it cannot be read."""
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        return pd.DataFrame(columns=list(KEY))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if lacking := [name for name in KEY if name not in rows]:
        raise UsageError(f"{path} lacks the column {lacking[0]}: it is no table of a search")
    return rows


def _others(rows: pd.DataFrame, recipes: Collection[Recipe]) -> pd.DataFrame:
    """Return the rows that are of other recipes."""
    keys = rows[list(KEY)].itertuples(index=False, name=None)
    return rows[[key not in recipes for key in keys]]


Further = Callable[[Sequence[Trial], str, Sequence[int], float], list[tuple[float, int]]]


def _rung(
    run: Run, left: Mapping[Cell, Sequence[float]], seeds: Sequence[int], further: Further
) -> list[Trial]:
    """Train each recipe at its rates with each seed, and return the trials.

    further: which rates and seeds a recipe's trials ask for, by how much its model's seeds scatter;
    what was trained already may be among them.
    """
    trials: list[Trial] = []
    asked: set[Cell] = set()
    new = [
        replace(cell, rate=rate, seed=seed)
        for cell, rates in left.items()
        for rate in sorted(rates)
        for seed in seeds
    ]
    try:
        while new:
            asked.update(new)
            run.report(run.start(new))
            run.finish()
            trials += [
                _trial(run.records[cell], run.topic(cell), run.share)
                for cell in new
                if cell in run.records
            ]
            new = []
            for cell in left:
                own = [trial for trial in trials if trial.recipe == recipe(cell)]
                better = direction(run.topics[cell.topic], cell.model)
                alike = [trial for trial in trials if trial.recipe[:2] == recipe(cell)[:2]]
                pairs = further(own, better, seeds, scatter(alike))
                new += [replace(cell, rate=rate, seed=seed) for rate, seed in pairs]
            new = [cell for cell in new if cell not in asked]
    finally:
        run.close()
    return trials


def _processor(on_cpu: bool) -> str:
    """Return the name of what trained: the GPU, if there is one that is not hidden."""
    here = cost.environment("cuda" if torch.cuda.is_available() and not on_cpu else "cpu")
    return str(here["cpu"] if here["device"] == "cpu" else here["device"])


def evidence(
    trials: Sequence[Trial], topics: Mapping[str, Topic], device: str = ""
) -> pd.DataFrame:
    """Return the table of rates: of each recipe the rate that won, and what speaks for it.

    value: its validation mean on all steps over seeds, NaN where no rate came so far; then rate is
    1. tried: how many trainings it took, and diverged how many of them did. date, processor and
    torch: of the search, on the device that was asked for, if any.
    """
    rows = []
    date = datetime.now(UTC).date().isoformat()
    processors = {on_cpu: _processor(on_cpu) for on_cpu in (False, True)}
    for key in dict.fromkeys(trial.recipe for trial in trials):
        own = [trial for trial in trials if trial.recipe == key]
        topic, model = topics[key[0]], key[1]
        last = [trial for trial in own if trial.share == 1]
        order = ranked(last, direction(topic, model))
        best = order[0] if order else 1.0
        values = [t.value for t in last if t.rate == best and not math.isnan(t.value)]
        found = {
            "rate": best,
            "metric": topic.judged_by(model)[0],
            "value": mean(values) if values else math.nan,
            "seeds": len({trial.seed for trial in last if trial.rate == best}),
            "tried": len(own),
            "diverged": sum(trial.status == Status.DIVERGED for trial in own),
            "date": date,
            "processor": processors[not device and model in topic.on_cpu],
            "torch": torch.__version__,
        }
        rows.append(dict(zip(KEY, key, strict=True)) | found)
    return pd.DataFrame(rows)


def direction(topic: Topic, model: str) -> str:
    """Return whether ``max`` or ``min`` of the metric that a model is judged by is better."""
    return topic.directions[topic.judged_by(model)[0]]


def _trial(record: Record, topic: Topic, share: int) -> Trial:
    """Return what one training of the search found."""
    cell = record.cell
    assert cell.rate is not None
    measured = record.validation or record.metrics
    if record.status is not Status.DONE:
        measured = {}
    primary = topic.judged_by(cell.model)[0]
    value = measured.get(primary, math.nan)
    further = next((name for name in topic.directions if name != primary), "")
    second = measured.get(further, math.nan) * (1 if topic.directions.get(further) == "max" else -1)
    return Trial(recipe(cell), cell.rate, share, cell.seed, str(record.status), value, second)


def _write(
    folder: Path,
    trials: Sequence[Trial],
    topics: Mapping[str, Topic],
    earlier: Mapping[str, pd.DataFrame],
    device: str,
) -> None:
    """Write the table of rates and all trials as CSV files, after the rows of earlier ones."""
    rows = []
    for trial in trials:
        topic, model = topics[trial.recipe[0]], trial.recipe[1]
        by = {"metric": topic.judged_by(model)[0], "direction": direction(topic, model)}
        rows.append(dict(zip(KEY, trial.recipe, strict=True)) | trial._asdict() | by)
    found = {trial.recipe for trial in trials}
    every = pd.DataFrame(rows).drop(columns="recipe")
    for name, table in ((TRIALS, every), (RATES, evidence(trials, topics, device))):
        text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
        new = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        whole = pd.concat([_others(earlier[name], found), new]).fillna("")[list(new)]
        write_atomically(folder / name, whole.to_csv(index=False, lineterminator="\n").encode())
