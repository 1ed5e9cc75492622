"""A cell is one point of the matrix, one training; a budget says how much training that is.

Both are frozen values. A cell's id reads ``vgg/vgg11-ce-cosine-ddp-s0`` and is a valid pytest id.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote, unquote

NAME = re.compile(r"[a-z][a-z0-9_]*")
LISTED, NEAREST = 30, 8  # allowed values that an error names
AXES = ("topic", "model", "loss", "schedule", "parallel", "precision", "seed")
PRECISIONS = ("fp32", "tf32", "bf16", "compiled")  # an id leaves the first out
FP32 = PRECISIONS[0]
SETTING = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")  # a field, or one of a field that has its own
SETTINGS = 120  # characters of a cell's settings, for an id is a file's name too
TIMES = ("steps_to_", "seconds_to_")  # metrics that only what gets there has
REFUSED = re.compile(r"(?:rank \d+: )?UsageError: ")  # how a refused training's reason begins
ID = re.compile(
    rf"([^/]+)/([^-]+)-([^-]+)-([^-]+)-([^-]+)(?:-({'|'.join(PRECISIONS[1:])}))?(?:-r([\d.]+))?"
    r"((?:-[^\W\d][\w.]*--?[\w.+%]+)*)-s(\d+)"
)
RATES = (1e-4, 1e4)  # the least and the largest multiple of a topic's learning rate


class UsageError(ValueError):
    """Raised for bad input: one line that names it and says what is allowed."""


def unknown(kind: str, value: str, allowed: Iterable[str], of: str = "") -> UsageError:
    """Return the error for a value outside a fixed set, naming the allowed ones, nearest first.

    Of more than LISTED only the nearest are named, and how many more there are. of: whose it is.
    """
    choices = sorted(allowed)
    many = len(choices) > LISTED
    near = difflib.get_close_matches(value, choices, n=NEAREST if many else 1, cutoff=0.5)
    ordered = [*near, *(choice for choice in choices if choice not in near)]
    told = some_of(ordered, NEAREST if many else LISTED) or "nothing"
    return UsageError(f"unknown {kind} {value!r}{f' of {of}' if of else ''}: choose from {told}")


def some_of(names: Sequence[str], most: int = 5) -> str:
    """Return the first ``most`` names as text, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class Status(StrEnum):
    """How a cell's trial ended."""

    DONE = "done"
    DIVERGED = "diverged"  # the training came to nothing: a result, not a fault
    UNMEASURED = "unmeasured"  # it trained, but what it is judged by is no finite number
    FAILED = "failed"
    TIMEOUT = "timeout"
    SKIPPED = "skipped"  # nothing was run, for a reason that is said


FAULTS = (Status.UNMEASURED, Status.FAILED, Status.TIMEOUT)


@dataclass(frozen=True)
class Cell:
    """One training: a topic's model under a loss, a schedule and a parallel configuration.

    precision: what its networks compute in while they train (``harness.axes.precision``).
    rate: its learning rate as a multiple of the topic's own; None: the one that the table of rates
    has for its recipe (``harness.rates``). settings: what its topic's fields and budget are set to,
    by name and as text, where several values are compared; sorted by name. Raises UsageError for a
    value that is no name, a negative seed, a rate outside of RATES or of more than three digits,
    and settings that an id cannot hold.
    """

    topic: str
    model: str
    loss: str
    schedule: str
    parallel: str = "single"
    seed: int = 0
    rate: float | None = None
    settings: tuple[tuple[str, str], ...] = field(default=(), metadata={"later": True})
    precision: str = field(default=FP32, metadata={"later": True})

    def __post_init__(self) -> None:
        for axis in AXES[:-1]:
            if not NAME.fullmatch(getattr(self, axis)):
                raise UsageError(
                    f"{axis} {getattr(self, axis)!r} is no name: "
                    "lower-case letters, digits and underscores, a letter first"
                )
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} is negative: seeds are 0, 1, 2, ...")
        if self.rate is not None and not _is_rate(self.rate):
            least, most = RATES
            raise UsageError(
                f"rate {self.rate!r}: a multiple of the topic's learning rate from {least} to "
                f"{most:g} is needed, of three digits at most"
            )
        names = [name for name, _ in self.settings]
        for name, text in self.settings:
            if not SETTING.fullmatch(name) or not text:
                raise UsageError(f"setting {name}={text!r}: a field's name and a value are needed")
        if names != sorted(set(names)):
            raise UsageError(f"settings {', '.join(names)}: each once, sorted by name")
        if len(_in_id(self.settings)) > SETTINGS:
            raise UsageError(
                f"settings {self.settings_text}: an id holds {SETTINGS} characters of them, so "
                "what is longer cannot be swept"
            )

    @property
    def id(self) -> str:
        """Return the cell as text, such as ``vgg/vgg11-ce-cosine-ddp-s0``.

        Its precision is there only if it is not fp32, ``vgg/vgg11-ce-cosine-ddp-bf16-s0``, its rate
        only if it has one of its own: ``vgg/vgg11-ce-cosine-ddp-r0.3-s0``, and so are its settings:
        ``vgg/vgg11-ce-cosine-ddp-width-32-s0``.
        """
        precision = "" if self.precision == FP32 else f"-{self.precision}"
        rate = "" if self.rate is None else f"-r{self.rate:g}"
        names = f"{self.model}-{self.loss}-{self.schedule}-{self.parallel}"
        return f"{self.topic}/{names}{precision}{rate}{_in_id(self.settings)}-s{self.seed}"

    @property
    def settings_text(self) -> str:
        """Return the settings to be read: ``lr=0.01 width=32``; empty if there are none."""
        return " ".join(f"{name}={text}" for name, text in self.settings)

    def __lt__(self, other: Cell) -> bool:
        return self.id < other.id

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Read a cell from its id. Raises UsageError for text that is none."""
        if not (match := ID.fullmatch(text)):
            raise UsageError(
                f"{text!r} is no cell id: it reads topic/model-loss-schedule-parallel-sSEED, "
                "for example vgg/vgg11-ce-cosine-single-s0"
            )
        topic, model, loss, schedule, parallel, precision, rate, settings, seed = match.groups()
        try:
            multiple = None if rate is None else float(rate)
        except ValueError:
            raise UsageError(f"rate {rate!r} of {text!r} is no number") from None
        pairs = tuple((name, _decoded(value)) for name, value in IN_ID.findall(settings))
        precise = precision or FP32
        return cls(topic, model, loss, schedule, parallel, int(seed), multiple, pairs, precise)


IN_ID = re.compile(r"-([^\W\d][\w.]*)-(-?[\w.+%]+)")  # a setting


def _in_id(settings: Iterable[tuple[str, str]]) -> str:
    """Return settings as an id has them: ``-lr-0.01-width-32``.

    What is not a letter, digit or one of ``._+`` is percent-encoded, but for a minus in front.
    """
    found = ""
    for name, text in settings:
        sign, digits = ("-", text[1:]) if text[:1] == "-" and len(text) > 1 else ("", text)
        coded = quote(digits, safe="+").replace("-", "%2D").replace("~", "%7E")
        found += f"-{name}-{sign}{coded}"
    return found


def _decoded(text: str) -> str:
    """Return a setting's text from an id. Raises UsageError for what is not encoded so."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise UsageError(f"setting {text!r} is not percent-encoded UTF-8") from None


def _is_rate(value: object) -> bool:
    """Whether a value is a multiple of a learning rate that an id can hold."""
    least, most = RATES
    number = type(value) in (int, float) and least <= value <= most  # type: ignore[operator]
    return number and float(f"{value:.3g}") == value


@dataclass(frozen=True)
class Budget:
    """How much training a profile buys for a topic.

    steps: optimizer steps; batch_size: samples a step over all ranks together; samples: training
    samples used (None: all); timeout_s: seconds without any progress after which the cell is given
    up, or more where its own steps take long; expected_s: a first guess of its seconds on one core,
    until a record knows better; looks: how often validation data is measured on the way, the last
    time at the end, in time that is not counted as training (0: at the end only, without a curve).
    """

    steps: int
    batch_size: int
    samples: int | None = None
    timeout_s: float = 600.0
    expected_s: float = 10.0
    looks: int = 0
