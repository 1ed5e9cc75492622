"""Processes that tests start, and those that these start."""

import contextlib
import os
import signal
from multiprocessing.connection import wait
from pathlib import Path

HANGS_S = 600


def processes(temporary):
    """Those that were started with this folder: by us, or by one of them."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"TMPDIR={temporary}\0".encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
    return found


def kill(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_all(temporary):
    for pid in processes(temporary):
        kill(pid)


def ends(pid):
    """Wait for a process, which need not be our child."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            return bool(wait([descriptor], HANGS_S))
        finally:
            os.close(descriptor)
    return True
