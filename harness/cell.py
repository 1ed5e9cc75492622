"""A cell is one point of the matrix, one training; a budget says how much training that is.

Both are frozen values. A cell's id reads ``vgg/vgg11-ce-cosine-ddp-s0`` and is a valid pytest id.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

NAME = re.compile(r"[a-z][a-z0-9_]*")
LISTED, NEAREST = 30, 8  # allowed values that an error names
AXES = ("topic", "model", "loss", "schedule", "parallel", "seed")


class UsageError(ValueError):
    """Raised for bad input: one line that names it and says what is allowed."""


def unknown(kind: str, value: str, allowed: Iterable[str]) -> UsageError:
    """Return the error for a value outside a fixed set, naming the allowed ones, nearest first.

    Of more than LISTED only the nearest are named, and how many more there are.
    """
    choices = sorted(allowed)
    many = len(choices) > LISTED
    near = difflib.get_close_matches(value, choices, n=NEAREST if many else 1, cutoff=0.5)
    rest = [choice for choice in choices if choice not in near]
    named = [*near, *rest[: max(0, NEAREST - len(near)) if many else None]]
    more = f" and {len(choices) - len(named)} more" if many else ""
    return UsageError(
        f"unknown {kind} {value!r}: choose from {', '.join(named) or 'nothing'}{more}"
    )


class Status(StrEnum):
    """How a cell's trial ended."""

    DONE = "done"
    DIVERGED = "diverged"  # the training came to nothing: a result, not a fault
    FAILED = "failed"
    TIMEOUT = "timeout"
    SKIPPED = "skipped"  # nothing was run, for a reason that is said


@dataclass(frozen=True, order=True)
class Cell:
    """One training: a topic's model under a loss, a schedule and a parallel configuration.

    Raises UsageError for a value that is no name or a negative seed.
    """

    topic: str
    model: str
    loss: str
    schedule: str
    parallel: str = "single"
    seed: int = 0

    def __post_init__(self) -> None:
        for axis in AXES[:-1]:
            if not NAME.fullmatch(getattr(self, axis)):
                raise UsageError(
                    f"{axis} {getattr(self, axis)!r} is no name: "
                    "lower-case letters, digits and underscores, a letter first"
                )
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} is negative: seeds are 0, 1, 2, ...")

    @property
    def id(self) -> str:
        """Return the cell as text, such as ``vgg/vgg11-ce-cosine-ddp-s0``."""
        return f"{self.topic}/{self.model}-{self.loss}-{self.schedule}-{self.parallel}-s{self.seed}"

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Read a cell from its id. Raises UsageError for text that is none."""
        match = re.fullmatch(r"([^/]+)/([^-]+)-([^-]+)-([^-]+)-([^-]+)-s(\d+)", text)
        if not match:
            raise UsageError(
                f"{text!r} is no cell id: it reads topic/model-loss-schedule-parallel-sSEED, "
                "for example vgg/vgg11-ce-cosine-single-s0"
            )
        topic, model, loss, schedule, parallel, seed = match.groups()
        return cls(topic, model, loss, schedule, parallel, int(seed))


@dataclass(frozen=True)
class Budget:
    """How much training a profile buys for a topic.

    steps: optimizer steps; batch_size: samples a step over all ranks together; samples: training
    samples used (None: all); timeout_s: seconds without any progress after which the cell is given
    up, or more where its own steps take long; expected_s: a first guess of its seconds on one core,
    until a record knows better.
    """

    steps: int
    batch_size: int
    samples: int | None = None
    timeout_s: float = 600.0
    expected_s: float = 10.0
