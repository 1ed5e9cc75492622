"""Results of a trial: the part of a cell's record that training, evaluation and audit decide."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.cell import Status


@dataclass(frozen=True)
class Saved:
    """What training knows of the checkpoints it saved, and the audit must find again.

    digest: over all that the middle checkpoint holds (of a fitted estimator: over its trees).
    bytes and save_s (seconds) are that checkpoint's. replayed_digest: over the networks
    ``replayed_steps`` steps later. metrics: those of the final checkpoint.
    """

    digest: str
    bytes: int
    save_s: float
    replayed_steps: int = 0
    replayed_digest: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)

    def hold_to(
        self, digest: str, replayed_digest: str | None, metrics: Mapping[str, float], load_s: float
    ) -> Audited:
        """Compare what was saved with what another process found after loading it.

        replayed_digest None: there was nothing to replay. load_s: seconds that loading took.
        """
        return Audited(
            state_equal=digest == self.digest,
            resume_equal=None
            if replayed_digest is None
            else replayed_digest == self.replayed_digest,
            metrics_equal=same_numbers(metrics, self.metrics),
            bytes=self.bytes,
            save_s=self.save_s,
            load_s=load_s,
            replayed_steps=self.replayed_steps,
        )


def same_numbers(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether metrics or curves are bit for bit the same, NaN where the other has NaN."""
    texts = [json.dumps(each, sort_keys=True, default=float) for each in (one, other)]
    return texts[0] == texts[1]


@dataclass(frozen=True)
class Audited:
    """Whether a cell's checkpoints gave a process that never saw its training what training had.

    state_equal: the middle one's tree is bit for bit what was saved. resume_equal: so are the
    networks ``replayed_steps`` steps later; None where nothing can be resumed (an estimator).
    metrics_equal: the final one gives the recorded metrics. save_s and load_s in seconds.
    """

    state_equal: bool
    resume_equal: bool | None
    metrics_equal: bool
    bytes: int
    save_s: float
    load_s: float
    replayed_steps: int


@dataclass(frozen=True)
class Parity:
    """How far a cell's first steps are from those of ``single`` in full float32.

    difference: the largest relative one, over ``steps`` losses and the first gradient. exact:
    whether the parallel configuration, with these networks and objectives, promises single's
    numbers; equal: whether it keeps that promise within what the precision allows
    (``precision.TOLERANCES``), None where it makes none. reason: why it makes none, or how it
    breaks it.
    """

    difference: float
    steps: int
    exact: bool
    equal: bool | None
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """The result of one cell's trial.

    The fields are those of ``results.record.Record`` with the same names; ``saved`` is what the
    audit is held to, ``audited`` what it found. Empty or None: not measured.
    """

    status: Status = Status.DONE
    reason: str = ""
    traceback: str = ""
    diverged_at: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)
    baseline: Mapping[str, float] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    samples: Mapping[str, str] = field(default_factory=dict)
    curve: Mapping[str, list[float]] = field(default_factory=dict)
    held_out: Mapping[str, list[float]] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    parity: Parity | None = None
    population: int = 1
    unrepeatable: Sequence[str] = ()
    saved: Saved | None = None
    audited: Audited | None = None

    @property
    def failed(self) -> bool:
        """Whether the trial went wrong in a way that another attempt may not.

        It raised, died or ran out of time; what is not single's training is never so.
        """
        unlike = self.parity is not None and self.parity.equal is False
        return self.status in (Status.FAILED, Status.TIMEOUT) and not unlike

    def record_fields(self) -> dict[str, Any]:
        """Return the fields of the cell's record that its trial decides, as plain values."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del fields["saved"]
        audited, parity = fields.pop("audited"), fields["parity"]
        checkpoint = dataclasses.asdict(audited) if audited else {}
        if checkpoint and self.unrepeatable:  # what comes after the state is promised nowhere
            checkpoint |= {"resume_equal": None, "metrics_equal": None}
        return fields | {
            "unrepeatable": list(self.unrepeatable),
            "checkpoint": checkpoint,
            "parity": dataclasses.asdict(parity) if parity else {},
        }

    def with_parity(self, found: Parity, configuration: str) -> Outcome:
        """Return this outcome with its parity; failed, its numbers kept, if that does not hold."""
        if found.equal is not False:
            return replace(self, parity=found)
        so = f"{configuration} is not single's training: {found.reason}"
        reason = f"{so}; {self.reason}" if self.reason else so
        return replace(self, status=Status.FAILED, reason=reason, parity=found)

    def with_audit(self, found: Audited) -> Outcome:
        """Return this outcome with what the audit found."""
        return replace(self, audited=found)

    def without_audit(self, failure: Outcome) -> Outcome:
        """Return this outcome as failed, with the reason why its audit failed; its numbers stay."""
        reason = f"while its checkpoint was audited: {failure.reason}"
        return replace(self, status=failure.status, reason=reason, traceback=failure.traceback)


@dataclass(frozen=True)
class PopulationOutcome:
    """The results of the cells of one population, by cell id.

    separate: why they should train one by one instead; then there are no members. note: what a
    person should know of how they trained.
    """

    members: Mapping[str, Outcome] = field(default_factory=dict)
    separate: str = ""
    note: str = ""

    @property
    def failed(self) -> bool:
        """Always false: a population that failed has a plain ``Outcome``."""
        return False

    @property
    def saved(self) -> dict[str, Saved]:
        """Return what training knows of each member's checkpoints, without those that diverged."""
        return {cell: member.saved for cell, member in self.members.items() if member.saved}

    def with_audit(self, found: Mapping[str, Audited]) -> PopulationOutcome:
        """Return these outcomes with what the audit found of each member."""
        members = {
            cell: replace(member, audited=found.get(cell)) for cell, member in self.members.items()
        }
        return replace(self, members=members)

    def without_audit(self, failure: Outcome) -> Outcome:
        """Return one failed outcome for all, as their audit failed: they train one by one then."""
        return Outcome().without_audit(failure)
