"""Bring the networks that a cell has trained back from its checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import checkpoint
from harness.cell import Cell, UsageError, unknown
from harness.checkpoint import estimators
from harness.fingerprint import lasting_hash
from harness.results.outdated import setup_of
from harness.results.record import Record
from harness.sources import has_file
from harness.training.topic import Topic


def tree_of(path: Path, cell: Cell | None = None) -> dict[str, Any]:
    """Return the tree of a cell's checkpoint, file or folder.

    cell: whose it must be, None for any. Raises UsageError for what is no checkpoint of such a
    cell.
    """
    try:
        tree = checkpoint.load(path)
    except checkpoint.CheckpointError as error:
        raise UsageError(str(error)) from None
    if not isinstance(tree.get("cell"), str) or not isinstance(tree.get("topic"), dict):
        raise UsageError(f"{path} says neither its cell nor its settings: it is of no cell")
    if cell is not None and tree["cell"] != cell.id:
        raise UsageError(f"{path} is of {tree['cell']}, not of {cell.id}")
    return tree


def topic_of(
    tree: Mapping[str, Any], topics: Mapping[str, Topic], path: Path, **places: Any
) -> Topic:
    """Return a checkpoint's topic, set as it was when it was trained.

    path: where the tree was read. places: settings that say where the topic's data is now. Raises
    UsageError if there is no such topic, or it has other settings in this version.
    """
    name = Cell.parse(tree["cell"]).topic
    if name not in topics:
        raise unknown("topic", name, topics)
    topic, settings = topics[name], dict(tree["topic"])
    fields = {field.name for field in dataclasses.fields(topic)}
    if set(settings) != fields:
        odd = ", ".join(sorted(set(settings) ^ fields))
        raise UsageError(f"{path} was trained by another version of {name}: {odd} is no setting")
    given = [field.name for field in dataclasses.fields(topic) if field.init]
    settings = {name: _like(getattr(topic, name), settings[name]) for name in given}
    settings |= {k: v for k, v in places.items() if k in given}
    return dataclasses.replace(topic, **settings)


def warning(record: Record | None, topic: Topic) -> str:
    """Say that a topic's code is no longer what trained a cell; empty if it is, or none is known.

    Its checkpoint is then taken by the code of now, which may tell it otherwise. Of code in no
    file, as in a notebook, nothing is known from session to session.
    """
    known = setup_of(record.setup) if record else {}
    if not record or not all(map(has_file, (type(topic), *topic.depends_on()))):
        return ""
    if known.get(topic.name) in (None, lasting_hash(topic)):
        return ""
    return (
        f"{record.cell.id} was trained by other code than is here now, its topic's or Decathlon's"
    )


def _like(own: Any, saved: Any) -> Any:
    """Return a setting as it was saved: a dataclass, saved as a dict, is made like one's own.

    So are those within it, and in tuples. What holds functions or data cannot be: it stays one's
    own, as all code is that of now.
    """
    try:
        return _made(own, saved)
    except TypeError:
        return own


def _made(own: Any, saved: Any) -> Any:
    """Make what ``_like`` returns. Raises TypeError for what cannot be made of what is saved."""
    if isinstance(own, tuple) and own and isinstance(saved, list | tuple):
        return tuple(_made(own[min(i, len(own) - 1)], value) for i, value in enumerate(saved))
    if not dataclasses.is_dataclass(own) or isinstance(own, type) or not isinstance(saved, dict):
        return tuple(saved) if isinstance(saved, list) else saved
    held = {field.name: getattr(own, field.name) for field in dataclasses.fields(own) if field.init}
    within = {name: _like(held[name], saved[name]) for name in held if name in saved}
    made = dataclasses.replace(own, **within)
    hash(made)
    return own if made == own else made


def networks(tree: Mapping[str, Any], topic: Topic, cell: Cell) -> dict[str, Any]:
    """Return a checkpoint's trained networks by name, on the CPU, in eval mode.

    Of a model that ``fit`` trains its estimator, under ``model``. Raises UsageError if they do not
    fit.
    """
    try:
        if cell.model in topic.fits:
            return {"model": estimators.loads(tree["estimator"])}
        found = topic.networks(cell)
        for name, network in found.items():
            checkpoint.load_network(network.eval(), tree["networks"][name])
    except (checkpoint.CheckpointError, KeyError) as error:
        raise UsageError(f"the checkpoint of {cell.id} does not fit: {error}") from None
    return found
