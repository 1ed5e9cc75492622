"""Lock a run's folder, so that two runs never write in it at once, and say who holds it."""

from __future__ import annotations

import os
import socket
import sys
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from harness.cell import UsageError
from harness.files import write_atomically


class FolderLock:
    """The lock of a run's folder, held by one process from ``acquire`` until ``release``.

    It ends with its process, however that ends. ``.holder`` in the folder says who took it last.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: FileLock | None = None

    def acquire(self) -> None:
        """Take the lock, if this object does not hold it yet.

        Raises UsageError if another holds it or the folder cannot be written.
        """
        if self._lock is not None:
            return
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            write_atomically(self._holder, _this_process().encode())
        except Timeout:
            raise UsageError(f"{self.folder} is in use by {self._said()}") from None
        except OSError as error:
            lock.release()
            raise UsageError(
                f"run folder {self.folder} cannot be written: {error.strerror or error}"
            ) from None
        self._lock = lock

    def release(self) -> None:
        """Let the folder go, if it is held."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def _holder(self) -> Path:
        return self.folder / ".holder"

    def _said(self) -> str:
        """Return what the holder has written of itself."""
        try:
            return self._holder.read_text(errors="replace").strip()[:500] or "another run"
        except OSError:
            return "another run"


def _this_process() -> str:
    """Return who this process is, as text for people."""
    program = Path(sys.argv[0])
    words = [(program.parent if program.stem == "__main__" else program).name, *sys.argv[1:]]
    now = datetime.now().isoformat(" ", "seconds")
    return f"process {os.getpid()} on {socket.gethostname()} since {now}: {' '.join(words)}\n"
