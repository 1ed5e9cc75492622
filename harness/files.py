"""Write files so that they are there whole or not at all, also after a crash of the machine."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def cache_folder(name: str) -> Path:
    """Return the folder for what is cached under a name, by default ``~/.cache/decathlon/NAME``.

    It is under ``$XDG_CACHE_HOME`` if that is set.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "decathlon", name)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that is renamed to ``path`` when the block ends.

    By then it is on the disk. If the block raises, what was at ``path`` stays as it was. The
    temporary file's name begins with a dot and ends in ``.tmp``. Raises OSError if it cannot be
    written, or if a folder is at ``path``.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder is in the file's place", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write bytes to a file: readers see what was there before or all of the new, never a part."""
    with atomic_file(path) as file:
        file.write(data)


def replace(temporary: Path, path: Path) -> None:
    """Rename ``temporary`` to ``path``, through to the disk, over a file or folder there."""
    old = path.with_name(f".{path.name}.old.tmp")
    if path.is_dir() or (temporary.is_dir() and path.exists()):
        remove(old)
        os.replace(path, old)
    os.replace(temporary, path)
    remove(old)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
