"""The record of one cell: a dataclass of plain values that is stored as one JSON file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

import msgspec

from harness.cell import FP32, Budget, Cell, Status
from harness.results import bounds

VERSION = 1
TRAINED = (Status.DONE, Status.DIVERGED)
CURVES = ("curve", "held_out")
LENGTHS = {"traceback": 20_000, "command": 8_000}  # characters; of other texts bounds.TEXT

Count = Annotated[int, msgspec.Meta(ge=1)]
Direction = Annotated[str, msgspec.Meta(pattern=r"^(max|min)\Z")]


class NewerRecordError(ValueError):
    """Raised for a record that a newer version of this package wrote."""


class CheckpointFlags(TypedDict, total=False):
    """The types of what an audit may have found."""

    state_equal: bool | None
    resume_equal: bool | None
    metrics_equal: bool | None
    bytes: int
    save_s: float
    load_s: float
    replayed_steps: int


class ParityFlags(TypedDict):
    """The types of what a measured parity must have."""

    difference: float
    exact: bool
    equal: bool | None
    reason: str


@dataclass
class Record:
    """The stored result of one cell, which is one training: how it ended and what was measured.

    status: how it ended; reason says why in a sentence unless it is ``done``; diverged_at: the step
    by which the training had diverged. fitted: trained by scikit-learn's ``fit``, without steps.
    metrics, validation and baseline share their names: those of the trained model on test data and
    on validation data (by which alone anything is chosen), and of an untrained or random one.
    directions says per metric whether ``max`` or ``min`` is better; the first is the primary one.
    accumulate: equal parts that each rank takes a batch in. attempts: 1, more where earlier ones
    failed. alone: for each task's metric of a multi-task topic, the model that learns only this
    task. curve holds equally long lists: step, loss, lr; held_out too: step, and metrics on
    validation data then. cost is in the units its names end in (s, ms, mb, j); energy_j is what the
    GPUs of all ranks used in train_s, and there only if no other training had them. evaluation says
    how the metrics were measured: extractor, counts, intervals. samples names a generator's PNG
    below the run's folder under ``grid``: a row of the same noise for each of five steps, then 64
    final images. checkpoint and parity are empty where they were not measured; parity then has its
    ``reason``. population: how many cells trained as one with this one, itself included. Its
    numbers are then those of a single training within the tolerance of ``population``, its times
    and rates its share of theirs, its peak memory all of theirs. rate_used: the multiple of the
    topic's learning rates that it trained at. set_to: what fields of its topic and budget were set
    to from outside, swept or not: numbers and flags, else text. data_notes: how its data was taken,
    a line for each thing that is not plain. target: of the primary metric, None if the topic sets
    none. untrainable: why its loss cannot train its topic, empty if it can. unrepeatable: operators
    that give other bits each time on its GPU, so that it cannot be trained on as it was. setup:
    hashes of what a topic's cells must share to be ranked together: its code, fields and data, and
    the code of own losses and the like. Texts are made printable and cut to a length, of which
    reason and evaluation have 2,000 characters, traceback 20,000. ``tables.cells`` turns records
    into a DataFrame.
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
    untrainable: str = ""
    world_size: Count = 1
    accumulate: Count = 1
    attempts: Count = 1
    population: Count = 1
    unrepeatable: list[str] = field(default_factory=list)
    rate_used: float = 1.0
    set_to: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    started: str = ""
    setup: str = ""
    budget: Budget | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    directions: dict[str, Direction] = field(default_factory=dict)
    alone: dict[str, str] = field(default_factory=dict)
    target: float | None = None
    evaluation: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=dict)
    curve: dict[str, list[float]] = field(default_factory=dict)
    held_out: dict[str, list[float]] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    checkpoint: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, str) and not isinstance(value, Status):
                setattr(self, name, bounds.text(value, LENGTHS.get(name, bounds.TEXT)))
            elif isinstance(value, dict | list) and name not in CURVES:
                setattr(self, name, bounds.texts(value))

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON values, with the cell's axes and id at the top level."""
        fields = dataclasses.asdict(self)
        cell = fields.pop("cell")
        return {"version": VERSION, "id": self.cell.id, **cell, **fields}

    @classmethod
    def from_dict(cls, values: Any) -> Record:
        """Build a record from JSON values as ``to_dict`` returns them; types are checked.

        Raises NewerRecordError for a higher version or fields that are unknown here, and ValueError
        for what is no record.
        """
        if not isinstance(values, dict):
            raise ValueError("no JSON object")
        version = values.get("version", 1)
        if type(version) is not int or version < 1:
            raise ValueError("its version is no number")
        if version > VERSION:
            raise NewerRecordError(f"version {bounds.line(str(version))}, known is {VERSION}")
        bounds.check(values)
        axes = {name: values[name] for name in CELL & set(values)}
        fields = {name: value for name, value in values.items() if name not in axes}
        try:
            record = msgspec.convert(fields | {"cell": axes}, cls)
            if record.checkpoint:
                msgspec.convert(record.checkpoint, CheckpointFlags)
            if record.parity:
                msgspec.convert(record.parity, ParityFlags)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
        if values.get("id") != record.cell.id:
            raise ValueError(f"id and axes disagree for {record.cell.id}")
        for name in CURVES:
            curve = getattr(record, name)
            if len({len(points) for points in curve.values()}) > 1 or "id" in curve:
                raise ValueError(f"the lists of its {name} are not equally long")
        if unknown := sorted(_unknown(values)):
            raise NewerRecordError(f"unknown fields {bounds.line(', '.join(unknown))}")
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
        later = () if self.unrepeatable else (*resumes, "metrics_equal")
        for name in ("state_equal", *later) if self.checkpoint else ():
            yield f"checkpoint {name} is {self.checkpoint.get(name)}", self.checkpoint.get(name)
        if not self.checkpoint:
            yield "its checkpoints were not audited", None
        if (self.cell.parallel, self.cell.precision) != ("single", FP32) or self.accumulate > 1:
            if not self.parity:
                yield "parity was not measured", None
            elif self.parity["exact"]:
                apart = f"first steps differ from single's by {self.parity['difference']:.2g}"
                yield apart, self.parity["equal"]
            else:
                yield "no reason is given why parity is inexact", bool(self.parity["reason"])


CELL = {field.name for field in dataclasses.fields(Cell)}
KNOWN = {field.name for field in dataclasses.fields(Record)} - {"cell"} | CELL | {"id", "version"}


def _unknown(values: dict[str, Any]) -> set[str]:
    """Return the names of a record's fields, and of its budget's, that are unknown here."""
    budget = set(values.get("budget") or ()) - {field.name for field in dataclasses.fields(Budget)}
    return set(values) - KNOWN | {f"budget.{name}" for name in budget}
