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
WAITS = ("/torch/distributed/", "/torch/autograd/")  # DDP exchanges inside of a backward pass


def raised(line: str, trace: str, rank: int | None) -> Outcome:
    """Return the failed outcome of an exception, from its first line and its traceback.

    rank: who raised it; None if there are no others.
    """
    where = "" if rank is None else f"rank {rank}: "
    reason = f"{where}{line.splitlines()[0]}"
    return Outcome(status=Status.FAILED, reason=reason, traceback=trace)


def died(rank: int, code: int | None) -> Outcome:
    """Return the failed outcome of a rank whose process ended without an answer."""
    how = f"exit code {code}"
    if code is not None and code < 0:
        how = f"killed by {signal.Signals(-code).name}"
    return Outcome(status=Status.FAILED, reason=f"rank {rank} died: {how}")


def hung(
    pids: Sequence[int], files: Sequence[Path], reason: str, ranks: Sequence[int] | None = None
) -> Outcome:
    """Return the timeout outcome of processes given up for a reason: which rank is busy, and where.

    pids and files run in parallel: faulthandler in each process writes its stacks to its file on
    SIGNAL. ranks: those of the processes, if they are not all that there are.
    """
    if ranks is None and len(pids) > 1:
        ranks = range(len(pids))
    before = [file.stat().st_size if file.exists() else 0 for file in files]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, SIGNAL)
    stacks = [_stack(file, size) for file, size in zip(files, before, strict=True)]
    busy = [rank for rank, frames in enumerate(stacks) if frames and not _waits(frames[0])]
    if not busy:
        return Outcome(status=Status.TIMEOUT, reason=reason)
    file, line, function = stacks[busy[0]][0]
    who = f"rank {ranks[busy[0]]} is" if ranks is not None else "it is"
    trace = "\n".join(f'  File "{f}", line {n}, in {name}' for f, n, name in stacks[busy[0]][::-1])
    return Outcome(
        status=Status.TIMEOUT,
        reason=f"{reason}: {who} in {function} ({Path(file).name}, line {line})",
        traceback=f"Where it was (most recent call last):\n{trace}",
    )


def _waits(frame: tuple[str, str, str]) -> bool:
    """Return whether a stack frame is one in which a rank waits for its peers."""
    return any(part in frame[0] for part in WAITS)


def _stack(file: Path, start: int) -> list[tuple[str, str, str]]:
    """Return the working thread's (file, line, function) frames, innermost first; [] if late.

    start: what the file already held before the signal, in characters.
    """
    limit = time.monotonic() + PATIENCE_S
    while time.monotonic() < limit:
        text = file.read_text()[start:] if file.exists() else ""
        for thread in text.split("\n\n"):
            if WORKING.search(thread):
                return FRAME.findall(thread)
        time.sleep(0.02)
    return []
