"""Describe how a task's ranks failed, and find the rank that is to blame.

Where one rank dies, raises or hangs, its peers fail or wait in the next collective; their errors
only follow from it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from harness.cell import Status
from harness.trial.outcome import Outcome

SIGNAL = signal.SIGUSR1
PATIENCE_S = 2.0  # for a process to write down where it is
FRAME = re.compile(r'  File "(.+)", line (\d+) in (\S+)')
WORKING = re.compile(r"execution/process\.py\", line \d+ in main\b")
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
CRASHED = tuple(-number for number in CRASHES)  # exit codes
FATAL = "Fatal Python error"  # with which faulthandler then begins
# where a rank waits for its peers: DDP exchanges inside of a backward pass, and what nccl has
# begun is waited for where its result is read
WAITS = ("/torch/distributed/", "/torch/autograd/", "/harness/axes/parallel/")
READS = ("check_finite", "check_failure")  # of the training loop

Frame = tuple[str, str, str]  # file, line, function; a stack's are innermost first


def raised(line: str, trace: str, rank: int | None) -> Outcome:
    """Return the failed outcome of an exception, from its first line and its traceback.

    rank: who raised it; None if there are no others.
    """
    where = "" if rank is None else f"rank {rank}: "
    reason = f"{where}{line.splitlines()[0]}"
    return Outcome(status=Status.FAILED, reason=reason, traceback=trace)


def died(rank: int, code: int | None, file: Path) -> Outcome:
    """Return the failed outcome of a rank whose process ended without an answer.

    file: to which faulthandler writes the process's stacks as it crashes.
    """
    how, trace = f"exit code {code}", ""
    if code is not None and code < 0:
        how = f"killed by {signal.Signals(-code).name}"
    if code in CRASHED and (frames := _frames(_read(file).rpartition(FATAL)[2])):
        how, trace = f"{how} {_place(frames)}", _trace(frames)
    return Outcome(status=Status.FAILED, reason=f"rank {rank} died: {how}", traceback=trace)


def hung(
    pids: Sequence[int],
    files: Sequence[Path],
    reason: str,
    ranks: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
) -> Outcome:
    """Return the timeout outcome of processes given up for a reason: which rank is busy, and where.

    pids and files run in parallel: faulthandler in each process writes its stacks to its file on
    SIGNAL. ranks: those of the processes, if they are not all that there are. steps: how many each
    has made; of several that are busy the one that is behind is named: the others wait for it.
    """
    if ranks is None and len(pids) > 1:
        ranks = range(len(pids))
    before = [len(_read(file)) for file in files]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, SIGNAL)
    stacks = [_stack(file, size) for file, size in zip(files, before, strict=True)]
    busy = [rank for rank, frames in enumerate(stacks) if frames and not _waits(frames[0])]
    if not busy:
        return Outcome(status=Status.TIMEOUT, reason=reason)
    behind = min(busy, key=lambda index: steps[index] if steps else 0)
    who = f"rank {ranks[behind]} is" if ranks is not None else "it is"
    frames = stacks[behind]
    return Outcome(
        status=Status.TIMEOUT,
        reason=f"{reason}: {who} {_place(frames)}",
        traceback=_trace(frames),
    )


def _place(frames: Sequence[Frame]) -> str:
    """Say where a stack's innermost frame is."""
    file, line, function = frames[0]
    return f"in {function} ({Path(file).name}, line {line})"


def _trace(frames: Sequence[Frame]) -> str:
    """Return a stack as a traceback."""
    lines = [f'  File "{file}", line {line}, in {function}' for file, line, function in frames]
    return "\n".join(["Where it was (most recent call last):", *reversed(lines)])


def _waits(frame: Frame) -> bool:
    """Return whether a stack frame is one in which a rank waits for its peers."""
    file, _, function = frame
    reads = function in READS and file.endswith("/harness/training/loop.py")
    return reads or any(part in file for part in WAITS)


def _read(file: Path) -> str:
    """Return what faulthandler has written to a file; empty if there is none."""
    return file.read_text(errors="replace") if file.exists() else ""


def _frames(text: str) -> list[Frame]:
    """Return the working thread's frames of what faulthandler wrote; [] if it is not in there."""
    working = (thread for thread in text.split("\n\n") if WORKING.search(thread))
    return FRAME.findall(next(working, ""))


def _stack(file: Path, start: int) -> list[Frame]:
    """Return the working thread's frames that a process writes when signalled; [] if late.

    start: what the file already held before the signal, in characters.
    """
    limit = time.monotonic() + PATIENCE_S
    while time.monotonic() < limit:
        if frames := _frames(_read(file)[start:]):
            return frames
        time.sleep(0.02)
    return []
