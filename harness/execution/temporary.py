"""Folders for temporary files: locked by their owner, swept by others once that was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
from multiprocessing import util
from pathlib import Path
from typing import IO

from harness.cell import UsageError

PREFIX, LOCK = "decathlon-", "owner.lock"
SWEPT = (f"{PREFIX}*", "pymp-*")  # ours, and multiprocessing's for our sockets
_claimed: dict[Path, int] = {}  # descriptors that stay open, which no file would without a warning


def make() -> tuple[Path, IO]:
    """Make a folder and its lock, to be closed after the folder is removed; sweep what was left.

    Raises UsageError, naming TMPDIR, where workers could not meet in such a folder.
    """
    told = os.environ.get("TMPDIR")
    if told and not (os.path.isdir(told) and os.access(told, os.W_OK | os.X_OK)):
        raise UsageError(f"TMPDIR {told} is no folder that can be written to")
    where = f"TMPDIR {tempfile.gettempdir()}"
    if set("#?") & set(where):
        raise UsageError(f"{where}: torch takes a # or ? for the end of a path; set another one")
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
    except OSError as error:
        raise UsageError(f"{where}: {error}") from None
    probe = folder / "xlistener-xxxxxxxx"  # as long as the name of multiprocessing's own socket
    try:
        with socket.socket(socket.AF_UNIX) as tried:
            tried.bind(str(probe))
        probe.unlink()
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UsageError(f"{where} is of no use for a socket: {error}; set a short one") from None
    lock = os.fdopen(_lock(folder), "w")
    sockets = Path(util.get_temp_dir())  # multiprocessing's, until this process ends
    if sockets not in _claimed:
        _claimed[sockets] = _lock(sockets)
    named = folder.with_name(folder.name.removeprefix("."))
    folder.rename(named)  # with its lock from the first moment: nobody sweeps it
    sweep(named.parent)
    return named, lock


def _lock(folder: Path) -> int:
    """Lock a folder for as long as the file descriptor that is returned stays open."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def sweep(parent: Path) -> None:
    """Remove the folders in ``parent`` whose owner has ended: its lock went with it."""
    for folder in (folder for pattern in SWEPT for folder in parent.glob(pattern)):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with open(folder / LOCK, "r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # in use, or none of ours
            continue
