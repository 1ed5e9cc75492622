"""What a run has left: its tables as DataFrames, its records, its trained networks."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from harness import project, restored
from harness.axes import registry
from harness.axes.losses import Loss
from harness.cell import Cell, UsageError, unknown
from harness.results import (
    bounds,
    effects,
    frames,
    improvement,
    side_files,
    summary,
    tables,
    target,
)
from harness.results.columns import STUDIES
from harness.results.record import Record
from harness.results.store import Store
from harness.topics import Supervised
from harness.topics.registry import registered_topics
from harness.training import declaration
from harness.training.topic import Topic

CHECKPOINTS = ("final", "middle")
SHOWN = 20  # rows in a notebook


def load(
    folder: str | PathLike[str],
    *,
    topics: Topic | Iterable[Topic] | None = None,
    losses: Sequence[Loss] = (),
) -> Results:
    """Return the results of a run from its folder, such as ``results/quick``.

    topics and losses: those that a cell's network needs, and that are neither installed nor in the
    conftests of the run's tests. Warns of records that cannot be read, which are left out. Raises
    UsageError if the folder holds no cells.
    """
    given = [topics] if isinstance(topics, Topic | type) else list(topics or ())
    with registry.having([("losses", loss) for loss in losses]):
        for topic in given:
            declaration.check(topic)
    own = {topic.name: topic for topic in given}
    return Results(Path(folder), {**registered_topics(), **own} if own else None, losses)


class Results:
    """The tables, records and trained networks of a run's folder, as they were when it was read.

    What a later run has trained there anew is refused: load the folder again to have it.
    cells: a row for each training; its columns are those of ``cells.csv``, of which
    ``metric.*`` is the trained network on test data. ``print`` says how the cells ended.
    """

    def __init__(
        self,
        folder: Path,
        topics: Mapping[str, Topic] | None = None,
        own: Iterable[object] = (),
    ) -> None:
        self.folder = folder
        self._store, self._topics = Store(folder), topics
        self._losses = [("losses", value) for value in own if isinstance(value, Loss)]
        self.cells, unread = frames.read(folder)
        self._read = {*self.cells[["id", "fingerprint", "started"]].itertuples(False, None)}
        for line in bounds.cut(unread):
            warnings.warn(line, stacklevel=3)

    @property
    def page(self) -> Path:
        """The run's page, one HTML file."""
        return self.folder / "index.html"

    @cached_property
    def records(self) -> dict[str, Record]:
        """The records by cell id; none in a folder that holds tables only."""
        known = {name for name, *_ in self._read}
        found = {r.cell.id: r for r in self._store if r.cell.id in known}
        for record in found.values():
            self._check_same(record)
        return found

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Each recipe's metrics over its seeds, with intervals, and what cannot be told apart."""
        return summary.summary(self.cells)

    @cached_property
    def effects(self) -> pd.DataFrame:
        """How much of a topic's quality losses, schedules and other axes decide."""
        return effects.effects(self.cells)

    @cached_property
    def improvement(self) -> pd.DataFrame:
        """How surely one model is better than another, over seeds."""
        return improvement.improvement(self.cells)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Training curves: a row for each recorded step of each cell."""
        return tables.curves([record.to_dict() for record in self.records.values()])

    @cached_property
    def held_out(self) -> pd.DataFrame:
        """Validation on the way: a row for each look of each cell and metric."""
        return target.held_out([record.to_dict() for record in self.records.values()])

    def study(self, name: str) -> pd.DataFrame:
        """Return the table of a study beside the cells: parity, scaling, speed, answers of a race.

        Raises UsageError if there is no such study, or this run has not made it.
        """
        if name not in STUDIES:
            raise unknown("study", name, STUDIES)
        try:
            return side_files.study(self.folder, name)
        except FileNotFoundError:
            raise UsageError(f"{self.folder} has no {name}.csv") from None
        except ValueError as error:
            raise UsageError(f"{self.folder / name}.csv is damaged: {error}") from None

    def record(self, cell: Cell | str) -> Record:
        """Return a cell's record. Raises UsageError if there is none."""
        name = _cell(cell).id
        if name not in self.records:
            raise unknown("cell", name, self.records)
        return self.records[name]

    def network(self, cell: Cell | str, which: str = "final", name: str | None = None) -> nn.Module:
        """Return a cell's trained network, as the topic made it: on the CPU, in eval mode.

        which: its ``final`` checkpoint or the ``middle`` one. name: which network, if the cell has
        several. Raises UsageError as ``networks`` does.
        """
        found = self.networks(cell, which)
        if name is None and len(found) > 1:
            raise UsageError(f"{_cell(cell).id} has {', '.join(found)}: say which by name=")
        if name is not None and name not in found:
            raise unknown("network", name, found)
        network = found[name or next(iter(found))]
        if not isinstance(network, nn.Module):
            raise UsageError(
                f"{_cell(cell).id} is a {type(network).__name__}, no network: take "
                "networks(cell)['model']"
            )
        return network

    def networks(self, cell: Cell | str, which: str = "final") -> dict[str, Any]:
        """Return all of a cell's trained networks by name; a fitted estimator under ``model``.

        They may have been trained under any parallel configuration. torch's global generator stays
        as it is. Raises UsageError if there is no such checkpoint, it is damaged or of a later run,
        or its topic cannot be found here.
        """
        cell = _cell(cell)
        return self._networks(*self._trained(cell, which), cell)

    def predict(self, cell: Cell | str, x: Any) -> np.ndarray:
        """Return what a cell's network says of samples, in the words and units of its data.

        x: samples as the topic's data has them, along the first dimension. Returns labels, or
        numbers that are no longer standardised. Raises UsageError as ``network`` does, for a topic
        that is no ``Supervised``, and where its data tells outputs otherwise than that of the
        training.
        """
        cell = _cell(cell)
        tree, topic = self._trained(cell, "final")
        if not isinstance(topic, Supervised):
            raise UsageError(f"topic {cell.topic} gives no predictions: take network({cell.id!r})")
        now = topic.targets()
        if (then := tree.get("targets", now)) != now:
            raise UsageError(f"{cell.id} was trained on targets of {then}, and its data has {now}")
        network = self._networks(tree, topic, cell)["model"]
        with registry.having(self._losses):
            return topic.predict(network, cell, x)

    def _networks(self, tree: Mapping[str, Any], topic: Topic, cell: Cell) -> dict[str, Any]:
        """Return a checkpoint's networks, with torch's global generator left as it is."""
        with torch.random.fork_rng(devices=[]), registry.having(self._losses):
            return restored.networks(tree, topic, cell)

    def _trained(self, cell: Cell, which: str) -> tuple[dict[str, Any], Topic]:
        """Return the tree of a cell's checkpoint, and the topic that trained it."""
        if which not in CHECKPOINTS:
            raise unknown("checkpoint", which, CHECKPOINTS)
        if own := self._store.read(cell):
            self._check_same(own)
        path = self._store.checkpoint(cell, which)
        if not path.exists():
            record = self.record(cell) if self.records else None
            ended = bounds.line(f": it is {record.status} {record.reason}") if record else ""
            raise UsageError(f"{cell.id} has no {which} checkpoint, {path}{ended}")
        tree = restored.tree_of(path, cell)
        topic = restored.topic_of(tree, self.topics, path)
        if said := restored.warning(own, topic):
            warnings.warn(said, stacklevel=4)
        return tree, topic

    def _check_same(self, record: Record) -> None:
        """Raise UsageError if a record is of a later training than ``cells``."""
        if (record.cell.id, record.fingerprint, record.started) not in self._read:
            raise UsageError(
                f"{record.cell.id} was trained after {self.folder} was read: load it again"
            )

    @cached_property
    def topics(self) -> Mapping[str, Topic]:
        """The topics by name: those of the run, or else those that ``replay`` would find here."""
        return project.topics(self.folder) if self._topics is None else self._topics

    def __repr__(self) -> str:
        ended = Counter(self.cells["status"])
        told = ", ".join(f"{count} {status}" for status, count in sorted(ended.items()))
        return f"Results({str(self.folder)!r}): {len(self.cells)} cells, {told}; see {self.page}"

    def _repr_html_(self) -> str:
        """Return the primary metrics as a small HTML table, for a notebook."""
        rows = self.summary[self.summary["primary"]]
        shown = [
            "topic",
            "model",
            "loss",
            "schedule",
            "parallel",
            "precision",
            "n",
            "metric",
            "mean",
            "standing",
        ]
        table = rows[shown].head(SHOWN).to_html(index=False, float_format="{:.4g}".format)
        more = f"<p>and {len(rows) - SHOWN} more: .summary</p>" if len(rows) > SHOWN else ""
        said = pd.Series([repr(self)]).to_frame().to_html(index=False, header=False, border=0)
        return f"{said}{table}{more}"


def _cell(cell: Cell | str) -> Cell:
    return Cell.parse(cell) if isinstance(cell, str) else cell
