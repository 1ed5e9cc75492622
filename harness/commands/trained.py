"""Commands on a cell's checkpoint: evaluate it, or sample images from it."""

from __future__ import annotations

import argparse
import sys

from harness import options
from harness.cell import Cell, UsageError
from harness.topics.options import TOPIC_OPTIONS


def evaluate(chosen: argparse.Namespace) -> int:
    """Print the metrics of a cell's final checkpoint, under the settings it was trained with."""
    from harness import project, restored
    from harness.results.store import Store

    project.configure(chosen, ("profile", "run_dir"))
    store, cell = Store(options.run_folder(chosen)), Cell.parse(chosen.cell)
    topics, path = project.topics(store.folder), store.checkpoint(cell, "final")
    tree = restored.tree_of(path, cell)
    topic = restored.topic_of(tree, topics, path, **options.given(chosen, TOPIC_OPTIONS))
    record = store.read(cell)
    if record and record.dataset != topic.dataset_id():
        raise UsageError(
            f"{cell.id} was trained on {record.dataset}, and this is {topic.dataset_id()}: "
            "say where the data of then is"
        )
    if said := restored.warning(record, topic):
        print(f"decathlon: {said}", file=sys.stderr)
    for name, value in topic.evaluate(restored.networks(tree, topic, cell), cell).items():
        print(f"{name} {value:.6g}" if isinstance(value, int | float) else f"{name} {value}")
    return 0


def sample(chosen: argparse.Namespace) -> int:
    """Write images that the generator of a checkpoint makes to a PNG."""
    import torch

    from harness import project, restored
    from harness.trial import samples

    if chosen.count < 1:
        raise UsageError(f"count {chosen.count} is no number of images: 1 or more")
    if chosen.out.suffix != ".png":
        raise UsageError(f"{chosen.out} must end in .png")
    # a run keeps its checkpoints as checkpoints/TOPIC/CELL/NAME.pt
    topics = project.topics(chosen.checkpoint.absolute().parent.parent.parent.parent)
    tree = restored.tree_of(chosen.checkpoint)
    places = options.given(chosen, TOPIC_OPTIONS)
    topic, cell = (
        restored.topic_of(tree, topics, chosen.checkpoint, **places),
        Cell.parse(tree["cell"]),
    )
    if not topic.generates:
        makers = sorted(name for name, other in topics.items() if other.generates)
        raise UsageError(
            f"{chosen.checkpoint} is of {cell.topic}, which makes no images: "
            f"choose one of {', '.join(makers)}"
        )
    noise = torch.Generator().manual_seed(chosen.seed)
    networks = restored.networks(tree, topic, cell)
    samples.save_grid(chosen.out, topic.sample(networks, cell, chosen.count, noise))
    print(chosen.out)
    return 0
