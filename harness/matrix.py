"""Choose the cells of a profile from the axes: which apply, a covering design, the full product."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import NamedTuple

from allpairspy import AllPairs

from harness.axes import losses, parallel, precision, schedules
from harness.axes.axis import Axis
from harness.cell import FP32, Cell, UsageError, unknown
from harness.design import separating
from harness.training.topic import Topic

PROFILES = ("smoke", "quick", "race", "full")
FULL_SEEDS = (0, 1, 2)
DEAR_S = 10  # a topic whose cells take longer trains under single only in quick
BROUGHT: dict[str, Axis] = {  # the axes that a project may add to
    "loss": losses.LOSSES,
    "schedule": schedules.SCHEDULES,
    "parallel": parallel.CONFIGURATIONS,
}
SPARE = 2  # degrees of freedom for the error of a topic's loss and schedule in quick


class Places(NamedTuple):
    """GPUs there are, and ranks of parallel cells; beside: whether ``on_cpu`` leaves GPUs alone."""

    devices: int
    world_size: int
    beside: bool

    def of(self, topic: Topic, model: str) -> tuple[int, int]:
        """Return the GPUs that a model's cells may have, and the ranks of parallel ones."""
        return 0 if self.beside and model in topic.on_cpu else self.devices, self.world_size


def skip_reason(
    topic: Topic, cell: Cell, devices: int = 0, world_size: int = 2, here: int | None = None
) -> str | None:
    """Return why a cell would measure nothing, as a sentence; None if it is worth a training.

    devices: GPUs there are. here: how many of the ranks share them, by default all. Raises
    UsageError for a value that is on no axis.
    """
    known = {"model": topic.models} | {name: axis.every for name, axis in BROUGHT.items()}
    for name, allowed in known.items():
        if getattr(cell, name) not in allowed:
            raise unknown(name, getattr(cell, name), allowed)
    reason = _lacking_form(topic, cell) or topic.skip(cell)
    if reason is None and cell.model not in topic.fits:
        base = topic.base_optimizer(cell.model)
        reason = schedules.skip_reason(cell.schedule, base, topic.loss_falls, cell.parallel)
    if reason is None and cell.precision != FP32 and cell.model in topic.fits:
        reason = f"scikit-learn fits {cell.model} in a precision of its own"
    reason = reason or precision.skip_reason(cell.precision, cell.parallel, devices)
    return reason or parallel.skip_reason(cell.parallel, devices, world_size, here)


def _lacking_form(topic: Topic, cell: Cell) -> str | None:
    """Return that a loss which was brought lacks a form that the model needs; None if it does not.

    scikit-learn's estimators have their own forms.
    """
    own = BROUGHT["loss"].own.get(cell.loss)
    if own is None:
        return None
    if cell.model in topic.fits:
        return f"{cell.model} is grown by scikit-learn, which does not know {cell.loss}"
    for form in topic.forms(cell.model):
        if form not in own.forms:
            return f"{cell.loss} has no {form} form, which {cell.model} needs"
    return None


def recipes(topic: Topic, seeds: Sequence[int] = (0,)) -> Iterator[Cell]:
    """Yield each model under the topic's default loss and schedule (constant for estimators)."""
    loss, schedule = topic.recipe
    for model, seed in product(topic.models, seeds):
        used = "constant" if model in topic.fits else schedule
        yield Cell(topic.name, model, loss, used, "single", seed)


def smoke(topic: Topic) -> list[Cell]:
    """Return the smoke profile's cells: every model once, and the first trained one under ddp."""
    cells = list(recipes(topic))
    trained = next((cell for cell in cells if cell.model not in topic.fits), None)
    if trained is None:
        return cells
    return [*cells, Cell(topic.name, trained.model, trained.loss, trained.schedule, "ddp")]


def full(topic: Topic, seeds: Iterable[int] = FULL_SEEDS) -> list[Cell]:
    """Return the full profile's cells: the whole product, with what will be skipped."""
    own = axes()
    every = (topic.models, own["loss"], own["schedule"], own["parallel"], tuple(seeds))
    return [Cell(topic.name, *values) for values in product(*every)]


def arms(topic: Topic) -> list[Cell]:
    """Return the race profile's cells: each model under every loss and schedule, in one process."""
    own = axes()
    every = (topic.models, own["loss"], own["schedule"])
    return [Cell(topic.name, *values) for values in product(*every)]


def covering(
    topics: Sequence[Topic],
    devices: int = 0,
    seeds: Sequence[int] = (0,),
    world_size: int = 2,
    beside: bool = False,
) -> dict[str, list[Cell]]:
    """Return the quick profile's cells by topic: few that tell the effects of their axes apart.

    In each topic every loss and schedule that applies meets the first model, in pairs from which
    the main effects of both can be estimated, with SPARE degrees of freedom for the error (see
    ``design``). Those whose cells take up to DEAR_S meet ddp, which promises single's numbers, at a
    pair of these. The other parallel configurations are met by the one of them with the fewest
    steps, each of which is an exchange, at its recipe; the cheapest topic has all it can. Every
    pair of loss, schedule and parallel values that applies to the cheapest occurs in some topic: it
    takes all that the others leave. seeds: of the recipes, which the cheapest topic has at least
    three of. devices: GPUs there are, which topics' ``on_cpu`` leave alone if beside is set.
    """
    ordered = sorted(topics, key=lambda topic: -_work(topic))
    cells = {topic.name: list(recipes(topic, seeds)) for topic in topics}
    covered: set[tuple[tuple[str, str], ...]] = set()
    where = Places(devices, world_size, beside)
    ddp, *others = _parallel_names(where)
    cheap = [topic for topic in ordered if _work(topic) <= DEAR_S]
    fewest = min(cheap[:-1], key=lambda topic: topic.budgets["quick"].steps, default=None)
    for number, topic in enumerate(ordered):
        more = others if topic is fewest or topic is ordered[-1] else []
        exact = ddp if topic in cheap or topic is ordered[-1] else "single"
        cells[topic.name] += _separating(topic, number, where, exact)
        cells[topic.name] += _at_recipe(topic, more, where)
        for cell in cells[topic.name]:
            covered |= pairs(cell)
    if ordered:
        cheapest = ordered[-1]
        cells[cheapest.name] += list(recipes(cheapest, FULL_SEEDS[1:]))
        cells[cheapest.name] += _missing_pairs(cheapest, covered, where)
    return {name: list(dict.fromkeys(chosen)) for name, chosen in cells.items()}


def pairs(cell: Cell) -> set[tuple[tuple[str, str], ...]]:
    """Return the pairs of loss, schedule and parallel values that a cell covers."""
    axes = ("loss", "schedule", "parallel")
    return set(combinations([(axis, getattr(cell, axis)) for axis in axes], 2))


def _work(topic: Topic) -> float:
    """Return the expected seconds of one of the topic's cells in the quick profile."""
    return topic.budgets["quick"].expected_s


def _trained(topic: Topic) -> list[str]:
    """Return the topic's models that players train, not ``fit``."""
    return [model for model in topic.models if model not in topic.fits]


def _applies(topic: Topic, values: Sequence[str], where: Places) -> bool:
    """Whether a topic's cell of these values (model, loss, schedule, parallel) is not skipped."""
    model, loss, schedule, ranks = values
    cell = Cell(topic.name, model, loss, schedule, ranks)
    return skip_reason(topic, cell, *where.of(topic, model)) is None


def _parallel_names(where: Places) -> list[str]:
    """Return the parallel configurations that can be measured here, ddp first, without single."""
    devices, ranks, beside = where
    there = (devices, 0) if beside else (devices,)
    names = axes()["parallel"][1:]
    here = [n for n in names if any(parallel.skip_reason(n, gpus, ranks) is None for gpus in there)]
    return sorted(here, key=lambda name: name != "ddp")


def _separating(topic: Topic, shift: int, where: Places, exact: str) -> list[Cell]:
    """Return cells of a topic's first trained model from which loss and schedule can be told apart.

    exact: the parallel configuration of one of them that is not the recipe. shift: as ``design``
    takes it, another for each topic.
    """
    if not (models := _trained(topic)):
        return []

    def applies(loss: str, schedule: str) -> bool:
        return _applies(topic, (models[0], loss, schedule, "single"), where)

    own = axes()
    loss, schedule = topic.recipe
    chosen = separating(own["loss"], own["schedule"], (loss, schedule), SPARE, applies, shift)
    cells = [Cell(topic.name, models[0], *pair) for pair in chosen]
    for index, cell in enumerate(cells[1:], 1):
        shared = replace(cell, parallel=exact)
        if skip_reason(topic, shared, *where.of(topic, shared.model)) is None:
            cells[index] = shared
            break
    return cells


def _at_recipe(topic: Topic, configurations: Sequence[str], where: Places) -> list[Cell]:
    """Return cells of a topic's recipe under parallel configurations, of the quickest model.

    Each of its steps is an exchange, so the model with the fewest is taken.
    """
    models = sorted(_trained(topic), key=lambda model: topic.budget("quick", model).steps)
    found = []
    for ranks in configurations:
        values = ((model, *topic.recipe, ranks) for model in models)
        fit = (Cell(topic.name, *v) for v in values if _applies(topic, v, where))
        found += [cell for cell in [next(fit, None)] if cell]
    return found


def _missing_pairs(topic: Topic, covered: set, where: Places) -> list[Cell]:
    """Return cells for the pairs not ``covered`` yet, by a pairwise design (allpairspy).

    Their pairs are added to ``covered``.
    """
    if not (models := _trained(topic)):
        return []
    rows = AllPairs(
        list(axes().values()),
        filter_func=lambda row: len(row) < 3 or _applies(topic, (models[0], *row), where),
    )
    chosen: list[Cell] = []
    for row in rows:
        turned = (models[(len(chosen) + i) % len(models)] for i in range(len(models)))
        model = next(model for model in turned if _applies(topic, (model, *row), where))
        cell = Cell(topic.name, model, *row)
        if not pairs(cell) <= covered:
            chosen.append(cell)
            covered |= pairs(cell)
    return chosen


def axes() -> dict[str, tuple[str, ...]]:
    """Return the values of the axes that every run has."""
    return {name: axis.names for name, axis in BROUGHT.items()}


def select(
    topics: Mapping[str, Topic],
    profile: str,
    names: Sequence[str] | None = None,
    devices: int = 0,
    seeds: int | None = None,
    world_size: int = 2,
    beside: bool = False,
) -> dict[str, list[Cell]]:
    """Return the cells of a profile by topic, for the topics in ``names`` (None: all).

    seeds: how many of them quick's recipes and full's whole product have, by default 1 and 3.
    Raises UsageError for unknown profiles or topics, for less than one seed, and for seeds of a
    race, which finds out how many it needs.
    """
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    for name in names or ():
        if name not in topics:
            raise unknown("topic", name, topics)
    if seeds is not None and seeds < 1:
        raise UsageError(f"seeds {seeds} is no number of seeds: 1 or more")
    if seeds is not None and profile == "race":
        raise UsageError(f"seeds {seeds}: a race takes as many as its minutes allow, say minutes")
    if not topics:
        raise UsageError("no topic is registered under the entry point harness.topics")
    if profile == "quick":
        every = list(topics.values())
        chosen = covering(every, devices, range(seeds or 1), world_size, beside)
    elif profile == "full":
        wanted = range(seeds) if seeds else FULL_SEEDS
        chosen = {name: full(topic, wanted) for name, topic in topics.items()}
    elif profile == "race":
        chosen = {name: arms(topic) for name, topic in topics.items()}
    else:
        chosen = {name: smoke(topic) for name, topic in topics.items()}
    return {name: cells for name, cells in chosen.items() if not names or name in names}
