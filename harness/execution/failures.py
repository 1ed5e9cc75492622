"""Which of a gang's ranks is to blame: the first that raised, or the one that does not wait.

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
from typing import Any

SIGNAL = signal.SIGUSR1
PATIENCE_S = 2.0  # for a process to write down where it is
FRAME = re.compile(r'  File "(.+)", line (\d+) in (\S+)')
WAITS = ("/torch/distributed/", "/torch/autograd/")  # DDP exchanges inside of a backward pass


def raised(answers: Sequence[tuple | None]) -> dict[str, Any]:
    """The outcome of a gang in which at least one answer is an error: its earliest one's.

    An answer is ("error", line, traceback, time.monotonic seconds), another, or None.
    """
    errors = [(a[3], rank) for rank, a in enumerate(answers) if a and a[0] == "error"]
    rank = min(errors)[1]
    _, line, trace, _ = answers[rank]  # type: ignore[misc]
    return failure(line, trace, rank if len(answers) > 1 else None)


def failure(line: str, trace: str, rank: int | None) -> dict[str, Any]:
    """The outcome of an error, with the rank that raised it if there are others."""
    where = "" if rank is None else f"rank {rank}: "
    return {"status": "failed", "reason": f"{where}{line.splitlines()[0]}", "traceback": trace}


def hung(
    pids: Sequence[int], files: Sequence[Path], limit_s: float, ranks: Sequence[int] | None = None
) -> dict[str, Any]:
    """The outcome of a gang that passed its deadline: where its ranks are, and which one hangs.

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
        return {"status": "timeout", "reason": reason}
    file, line, function = stacks[busy[0]][0]
    who = f"rank {ranks[busy[0]]} is" if ranks is not None else "it is"
    trace = "\n".join(f'  File "{f}", line {n}, in {name}' for f, n, name in stacks[busy[0]][::-1])
    return {
        "status": "timeout",
        "reason": f"{reason}: {who} in {function} ({Path(file).name}, line {line})",
        "traceback": f"Where it was (most recent call last):\n{trace}",
    }


def _waits(frame: tuple[str, str, str]) -> bool:
    return any(part in frame[0] for part in WAITS)


def _stack(file: Path, start: int) -> list[tuple[str, str, str]]:
    """The frames of the thread that works, innermost first; none if it does not write in time."""
    limit = time.monotonic() + PATIENCE_S
    while time.monotonic() < limit:
        text = file.read_text()[start:] if file.exists() else ""
        for thread in text.split("\n\n"):
            if re.search(r"execution/process\.py\", line \d+ in main\b", thread):
                return FRAME.findall(thread)
        time.sleep(0.02)
    return []
