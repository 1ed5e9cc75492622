"""The record of one cell: a dataclass of plain values that is stored as one JSON file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from harness.cell import Budget, Cell, Status

TRAINED = (Status.DONE, Status.DIVERGED)


@dataclass
class Record:
    """The stored result of one cell, which is one training: how it ended and what was measured.

    status: how it ended; reason says why in a sentence unless it is ``done``; diverged_at: the step
    by which the training had diverged. fitted: trained by scikit-learn's ``fit``, without steps.
    metrics and baseline share their names: those of the trained model, and of an untrained or
    random one. directions says per metric whether ``max`` or ``min`` is better; the first is the
    primary one. accumulate: equal parts that each rank takes a batch in. attempts: 1, more where
    earlier ones failed. alone: for each task's metric of a multi-task topic, the model that learns
    only this task. curve holds equally long lists: step, loss, lr. cost is in the units its names
    end in (s, ms, mb). evaluation says how the metrics were measured: extractor, counts, intervals.
    samples names a generator's PNG below the run's folder under ``grid``: a row of the same noise
    for each of five steps, then 64 final images. checkpoint and parity are empty where they were
    not measured; parity then has its ``reason``. population: how many cells trained as one with
    this one, itself included. Its numbers are then those of a single training within the tolerance
    of ``population``, its times and rates its share of theirs, its peak memory all of theirs.
    data_notes: how its data was taken, a line for each thing that is not plain.
    ``tables.cells`` turns records into a DataFrame.
    """

    cell: Cell
    fingerprint: str
    status: Status
    reason: str = ""
    traceback: str = ""
    diverged_at: int | None = None
    fitted: bool = False
    profile: str = ""
    dataset: str = ""
    data_notes: list[str] = field(default_factory=list)
    world_size: int = 1
    accumulate: int = 1
    attempts: int = 1
    population: int = 1
    command: str = ""
    started: str = ""
    budget: Budget | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    directions: dict[str, str] = field(default_factory=dict)
    alone: dict[str, str] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=dict)
    curve: dict[str, list[float]] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    checkpoint: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON values, with the cell's axes and id at the top level."""
        fields = dataclasses.asdict(self)
        cell = fields.pop("cell")
        return {"id": self.cell.id, **cell, **fields}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Record:
        """Build a record from ``to_dict``'s values. Raises KeyError, TypeError or ValueError."""
        values = dict(values)
        cell = Cell(**{f.name: values.pop(f.name) for f in dataclasses.fields(Cell)})
        if values.pop("id") != cell.id:
            raise ValueError(f"id and axes disagree for {cell.id}")
        budget = values.pop("budget")
        record = cls(cell=cell, budget=Budget(**budget) if budget else None, **values)
        record.status = Status(record.status)
        return record

    def check(self) -> None:
        """Raise AssertionError unless the cell was trained and, if finished, its checks hold.

        Of a finished cell: its checkpoints load back bit for bit, and a parallel one that promises
        single's numbers has them. A check that was not made counts as failed. A diverged cell has
        none.
        """
        assert self.status in TRAINED, f"{self.cell.id} {self.status}: {self.reason}"
        if self.status is Status.DONE:
            wrong = [name for name, holds in self._promises() if holds is not True]
            assert not wrong, f"{self.cell.id}: {', '.join(wrong)}"

    def _promises(self) -> Iterator[tuple[str, bool | None]]:
        """Yield each check of a finished cell: a message for its failure, and if it holds.

        None: the check was not made.
        """
        resumes = () if self.fitted else ("resume_equal",)  # no steps to go on with
        for name in ("state_equal", *resumes, "metrics_equal") if self.checkpoint else ():
            yield f"checkpoint {name} is {self.checkpoint.get(name)}", self.checkpoint.get(name)
        if not self.checkpoint:
            yield "its checkpoints were not audited", None
        if self.cell.parallel != "single" or self.accumulate > 1:
            if not self.parity:
                yield "parity was not measured", None
            elif self.parity["exact"]:
                apart = f"first steps differ from single's by {self.parity['difference']:.2g}"
                yield apart, self.parity["equal"]
            else:
                yield "no reason is given why parity is inexact", bool(self.parity["reason"])
