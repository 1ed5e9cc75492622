"""A process's heartbeat: how far its training is and since when nothing has advanced.

Training and evaluation let it beat. An executor gives a worker process memory to beat in that both
share; elsewhere nobody looks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch.nn.modules.module import register_module_forward_hook

TICKS = 1800  # seconds that a compiler may take
SLOTS = 4  # numbers in a heartbeat's memory: those below
AT, STEP, STEPPED_AT, STEP_S = range(SLOTS)

_memory: MutableSequence[float] = [0.0] * SLOTS


@dataclass(frozen=True)
class Pulse:
    """What a heartbeat tells: seconds without progress, last step, longest seconds between two."""

    silent_s: float
    step: int = 0
    step_s: float = 0.0


def beat_in(memory: MutableSequence[float]) -> None:
    """Let this process's heart beat in ``memory``, SLOTS numbers that are 0 before a task."""
    global _memory
    _memory = memory


def beat(step: int | None = None) -> None:
    """Say that this process has advanced: by training step ``step``, or by some other work."""
    now = time.monotonic()
    if step is not None:
        if step > 1 and _memory[STEPPED_AT]:
            _memory[STEP_S] = max(_memory[STEP_S], now - _memory[STEPPED_AT])
        _memory[STEP], _memory[STEPPED_AT] = step, now
    _memory[AT] = now


def clear(memory: MutableSequence[float]) -> None:
    """Forget all beats, before a new task."""
    for slot in range(SLOTS):
        memory[slot] = 0.0


def pulse(memory: MutableSequence[float], begun: float) -> Pulse:
    """Read a heartbeat, of this process or of another on this machine.

    begun: when its task began, in ``time.monotonic`` seconds; until its first beat that counts.
    """
    silent_s = time.monotonic() - max(begun, memory[AT])
    return Pulse(silent_s, int(memory[STEP]), memory[STEP_S])


def own_pulse(begun: float) -> Pulse:
    """Read this process's own heartbeat."""
    return pulse(_memory, begun)


@contextmanager
def ticking() -> Iterator[None]:
    """Beat every second of the block, for TICKS seconds at most: a compiler cannot."""
    over = threading.Event()

    def tick() -> None:
        for _ in range(TICKS):
            beat()
            if over.wait(1):
                return

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def beating() -> Iterator[None]:
    """Beat at the end of the block, and in it whenever any network has made a forward pass.

    For an evaluation, which has no steps and may take long where the data is large.
    """

    def forward(*_: Any) -> None:
        beat()

    hook = register_module_forward_hook(forward)
    try:
        yield
    finally:
        hook.remove()
        beat()
