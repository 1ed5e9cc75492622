"""Store a run's records: one JSON file per cell, written atomically, so a crash loses none."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from harness.cell import Cell
from harness.files import write_atomically
from harness.results.record import TRAINED, Record


class Store:
    """Reads and writes the records of one run below ``folder``, and names its checkpoints' paths.

    A record that cannot be read is moved to ``cells/corrupt/`` and named in ``set_aside``; its cell
    counts as not run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cells = folder / "cells"
        self.set_aside: list[str] = []

    def path(self, cell: Cell) -> Path:
        """Return the path of a cell's record."""
        return self.cells / f"{cell.id.replace('/', '--')}.json"

    def checkpoint(self, cell: Cell, name: str) -> Path:
        """Return the path of a cell's checkpoint ``name`` (``middle`` or ``final``)."""
        return self.folder / "checkpoints" / cell.id / f"{name}.pt"

    def write(self, record: Record) -> Path:
        """Write a record and return its path; after that it survives a crash of this machine."""
        path = self.path(record.cell)
        write_atomically(path, json.dumps(record.to_dict(), indent=1).encode())
        return path

    def tidy(self) -> None:
        """Remove the temporary files of a killed run. Only one run at a time may use the folder."""
        for left in self.folder.glob("**/.*.tmp"):
            left.unlink(missing_ok=True)

    def read(self, cell: Cell) -> Record | None:
        """Return a cell's record, or None if there is none that can be read."""
        return self._read(self.path(cell))

    def trained(self, cell: Cell, fingerprint: str) -> Record | None:
        """Return a cell's record if it was trained to an end with this fingerprint, else None."""
        record = self.read(cell)
        if record is None or record.fingerprint != fingerprint:
            return None
        return record if record.status in TRAINED else None

    def __iter__(self) -> Iterator[Record]:
        """Yield all readable records in the order of their file names."""
        for path in sorted(self.cells.glob("*.json")):
            record = self._read(path)
            if record is not None:
                yield record

    def _read(self, path: Path) -> Record | None:
        """Read a record's file; if it is invalid, move it to ``cells/corrupt/`` and return None."""
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return Record.from_dict(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            corrupt = self.cells / "corrupt" / f"{path.stem}.{uuid.uuid4().hex[:8]}.json"
            corrupt.parent.mkdir(exist_ok=True)
            os.replace(path, corrupt)
            self.set_aside.append(f"{path} is no record ({error}): moved to {corrupt}")
            return None
