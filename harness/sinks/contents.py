"""What a record gives to a tool that draws curves and compares settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from importlib import import_module

import pytest

from harness.results.record import Record
from harness.training.topic import Topic


def curves(record: Record) -> Iterator[tuple[str, list[tuple[int, float]]]]:
    """Yield each curve of a record: its name, and its points as (step, value).

    ``train/loss``, ``train/lr`` and what else its batches measured; ``validation/NAME``.
    """
    for prefix, curve in (("train", record.curve), ("validation", record.held_out)):
        steps = [int(step) for step in curve.get("step", ())]
        for name, values in curve.items():
            if name != "step":
                yield f"{prefix}/{name}", list(zip(steps, values, strict=True))


def figures(record: Record) -> dict[str, float]:
    """Return what was measured at the end: metrics on test data and without training, and cost."""
    groups = {"metric": record.metrics, "baseline": record.baseline, "cost": record.cost}
    found = {f"{group}/{name}": v for group, own in groups.items() for name, v in own.items()}
    return {name: float(v) for name, v in found.items() if isinstance(v, int | float)}


def settings(record: Record, topic: Topic) -> dict[str, str | int | float | bool]:
    """Return a cell's axes, its rate, its budget and its topic's settings, by name."""
    found: dict[str, object] = dict(dataclasses.asdict(record.cell))
    found |= {"rate": record.rate_used, "world_size": record.world_size}
    if record.budget is not None:
        budget = dataclasses.asdict(record.budget)
        found |= {f"budget.{name}": budget[name] for name in ("steps", "batch_size", "samples")}
    for field in dataclasses.fields(topic):
        found[f"{record.cell.topic}.{field.name}"] = getattr(topic, field.name)
    return {k: v if isinstance(v, str | int | float) else str(v) for k, v in found.items()}


def tags(record: Record) -> dict[str, str]:
    """Return what tells a cell's record from others: id, status, reason, fingerprint, start."""
    names = ("status", "reason", "fingerprint", "started", "dataset", "profile", "command")
    return {"cell": record.cell.id, **{name: str(getattr(record, name)) for name in names}}


def require(name: str) -> None:
    """End pytest with one line where the library that a sink hands on to is not installed.

    name: of the library, the sink and its extra alike.
    """
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        extra = f"pip install torch-decathlon[{name}]"
        pytest.exit(f"decathlon: the sink {name} is an extra ({error}): {extra}", returncode=2)
