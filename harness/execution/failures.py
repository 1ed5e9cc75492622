"""What went wrong with a task's ranks, and which of them is to blame.

Where one rank dies, raises or hangs, its peers fail or wait in the next exchange; what they have to
say is an echo.
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
    """The outcome of an error, with the rank that raised it if there are others."""
    where = "" if rank is None else f"rank {rank}: "
    reason = f"{where}{line.splitlines()[0]}"
    return Outcome(status=Status.FAILED, reason=reason, traceback=trace)


def died(rank: int, code: int | None) -> Outcome:
    """The outcome of a process that ended with an exit code instead of an answer."""
    how = f"exit code {code}"
    if code is not None and code < 0:
        how = f"killed by {signal.Signals(-code).name}"
    return Outcome(status=Status.FAILED, reason=f"rank {rank} died: {how}")


def hung(
    pids: Sequence[int], files: Sequence[Path], limit_s: float, ranks: Sequence[int] | None = None
) -> Outcome:
    """The outcome of processes that passed their deadline: which rank hangs, and where.

    Each process has registered faulthandler to write its stacks to its file on SIGNAL. ranks: those
    of the processes, if they are not all that there are.
    """
    if ranks is None and len(pids) > 1:
        ranks = range(len(pids))
    before = [file.stat().st_size if file.exists() else 0 for file in files]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, SIGNAL)
    stacks = [_stack(file, size) for file, size in zip(files, before, strict=True)]
    reason = f"not done after {limit_s:g} s"
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
    return any(part in frame[0] for part in WAITS)


def _stack(file: Path, start: int) -> list[tuple[str, str, str]]:
    """Read the working thread's frames from a stacks file, innermost first; none if too late."""
    limit = time.monotonic() + PATIENCE_S
    while time.monotonic() < limit:
        text = file.read_text()[start:] if file.exists() else ""
        for thread in text.split("\n\n"):
            if WORKING.search(thread):
                return FRAME.findall(thread)
        time.sleep(0.02)
    return []
