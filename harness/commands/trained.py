"""Commands on a cell's checkpoint: evaluate it, or sample images from it."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import options
from harness.cell import Cell, UsageError, unknown
from harness.topics.options import TOPIC_OPTIONS

if TYPE_CHECKING:
    from harness.training.topic import Topic


def evaluate(chosen: argparse.Namespace) -> int:
    """Print the metrics of a cell's final checkpoint, under the settings it was trained with."""
    from harness import project
    from harness.results.store import Store

    project.configure(chosen, ("profile", "run_dir"))
    store, cell = Store(options.run_folder(chosen)), Cell.parse(chosen.cell)
    topics = project.topics(store.folder)
    tree, topic = _trained(topics, store.checkpoint(cell, "final"), cell, chosen)
    record = store.read(cell)
    if record and record.dataset != topic.dataset_id():
        raise UsageError(
            f"{cell.id} was trained on {record.dataset}, and this is {topic.dataset_id()}: "
            "say where the data of then is"
        )
    for name, value in topic.evaluate(_networks(tree, topic, cell), cell).items():
        print(f"{name} {value:.6g}" if isinstance(value, int | float) else f"{name} {value}")
    return 0


def _trained(
    topics: Mapping[str, Topic], path: Path, cell: Cell | None, chosen: argparse.Namespace
) -> tuple[dict[str, Any], Topic]:
    """Read a checkpoint; return its tree, and its topic as it was set when it was trained.

    cell: whose it must be, None for any. chosen: a command line that may say where data is now.
    Raises UsageError for what is no checkpoint of such a cell.
    """
    from harness import checkpoint

    try:
        tree = checkpoint.load(path)
    except checkpoint.CheckpointError as error:
        raise UsageError(str(error)) from None
    if not isinstance(tree.get("cell"), str) or not isinstance(tree.get("topic"), dict):
        raise UsageError(f"{path} says neither its cell nor its settings: it is of no cell")
    if cell is not None and tree["cell"] != cell.id:
        raise UsageError(f"{path} is of {tree['cell']}, not of {cell.id}")
    name = Cell.parse(tree["cell"]).topic
    if name not in topics:
        raise unknown("topic", name, topics)
    topic, settings = topics[name], dict(tree["topic"])
    fields = {field.name for field in dataclasses.fields(topic)}
    if set(settings) != fields:
        odd = ", ".join(sorted(set(settings) ^ fields))
        raise UsageError(f"{path} was trained by another version of {name}: {odd} is no setting")
    settings = {name: _like(getattr(topic, name), value) for name, value in settings.items()}
    settings |= {k: v for k, v in options.given(chosen, TOPIC_OPTIONS).items() if k in fields}
    return tree, dataclasses.replace(topic, **settings)


def _like(own: Any, saved: Any) -> Any:
    """Return a setting as it was saved: a dataclass, saved as a dict, is made like one's own.

    What holds functions or data cannot be: it stays one's own, as all code is that of now.
    """
    if not dataclasses.is_dataclass(own) or isinstance(own, type) or not isinstance(saved, dict):
        return saved
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()}
    try:
        made = dataclasses.replace(own, **plain)
        hash(made)
    except TypeError:
        return own
    return made


def _networks(tree: dict[str, Any], topic: Topic, cell: Cell) -> dict[str, Any]:
    """Return the trained networks of a checkpoint's tree. Raises UsageError if they do not fit."""
    from harness import checkpoint
    from harness.checkpoint import estimators

    try:
        if cell.model in topic.fits:
            return {"model": estimators.loads(tree["estimator"])}
        networks = topic.networks(cell)
        for name, network in networks.items():
            checkpoint.load_network(network.eval(), tree["networks"][name])
    except (checkpoint.CheckpointError, KeyError) as error:
        raise UsageError(f"the checkpoint of {cell.id} does not fit: {error}") from None
    return networks


def sample(chosen: argparse.Namespace) -> int:
    """Write images that the generator of a checkpoint makes to a PNG."""
    import torch

    from harness import project
    from harness.trial import samples

    if chosen.count < 1:
        raise UsageError(f"count {chosen.count} is no number of images: 1 or more")
    if chosen.out.suffix != ".png":
        raise UsageError(f"{chosen.out} must end in .png")
    # a run keeps its checkpoints as checkpoints/TOPIC/CELL/NAME.pt
    topics = project.topics(chosen.checkpoint.absolute().parent.parent.parent.parent)
    tree, topic = _trained(topics, chosen.checkpoint, None, chosen)
    cell = Cell.parse(tree["cell"])
    if not topic.generates:
        makers = sorted(name for name, other in topics.items() if other.generates)
        raise UsageError(
            f"{chosen.checkpoint} is of {cell.topic}, which makes no images: "
            f"choose one of {', '.join(makers)}"
        )
    noise = torch.Generator().manual_seed(chosen.seed)
    networks = _networks(tree, topic, cell)
    samples.save_grid(chosen.out, topic.sample(networks, cell, chosen.count, noise))
    print(chosen.out)
    return 0
