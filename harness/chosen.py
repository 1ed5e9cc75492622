"""Choose cells by values of axes, apart from the profile's own design."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product

from harness import matrix
from harness.cell import FP32, PRECISIONS, Cell, unknown
from harness.training.topic import Topic

WHOLE = ("race", "full")  # profiles in which an axis that is not chosen keeps all its values


def select(
    topics: Mapping[str, Topic], profile: str, told: Mapping[str, str], seeds: int | None = None
) -> dict[str, list[Cell]]:
    """Return by topic the product of the values that are chosen, with what will be skipped.

    told: by axis (model, loss, schedule, parallel, precision), names with commas between them. Of
    an axis that is not chosen there are all models, the topic's own loss and schedule (constant for
    estimators), single and fp32; in full and race as many as the profile has. seeds: as the profile
    has them. Raises UsageError for a value that is on no axis, of models on that of no topic.
    """
    models = {model for topic in topics.values() for model in topic.models}
    known = {"model": models, "precision": PRECISIONS}
    known |= {name: axis.every for name, axis in matrix.BROUGHT.items()}
    values = {axis: _names(axis, text, known[axis]) for axis, text in told.items()}
    first = range(seeds or 1) if profile == "quick" else (0,)
    used = (range(seeds) if seeds else matrix.FULL_SEEDS) if profile == "full" else first
    return {name: _product(topic, profile, values, used) for name, topic in topics.items()}


def _names(axis: str, text: str, allowed: Collection[str]) -> list[str]:
    """Return the names in a text, each once. Raises UsageError for one that is not allowed."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in allowed:
            raise unknown(axis, name, allowed)
    return names


def _product(
    topic: Topic, profile: str, values: Mapping[str, Sequence[str]], seeds: Sequence[int]
) -> list[Cell]:
    """Return a topic's cells of all combinations of values."""
    found = []
    for model in topic.models:
        if model not in values.get("model", topic.models):
            continue
        loss, schedule = topic.recipe
        own = {"loss": (loss,), "schedule": ("constant" if model in topic.fits else schedule,)}
        every = matrix.axes() if profile in WHOLE else own
        if profile != "full":
            every = every | {"parallel": ("single",)}
        losses, schedules, parallel = (
            values.get(axis, every[axis]) for axis in ("loss", "schedule", "parallel")
        )
        precisions = values.get("precision", (FP32,))
        cells = product(product(losses, schedules, parallel, seeds), precisions)
        found += [Cell(topic.name, model, *some, precision=precise) for some, precise in cells]
    return found
