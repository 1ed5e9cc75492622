"""Store a run's records: one JSON file per cell, written atomically, so a crash loses none."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from harness import files
from harness.cell import Cell
from harness.files import write_atomically
from harness.results import bounds
from harness.results.record import TRAINED, NewerRecordError, Record


class Store:
    """Reads and writes the records of one run below ``folder``, and names its checkpoints' paths.

    Reading moves nothing: what cannot be read is named in ``set_aside``, and its cell counts as not
    run. Where ``write`` would replace such a file, it moves it to ``cells/set_aside/`` first.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cells = folder / "cells"
        self._set_aside: dict[Path, str] = {}

    @property
    def set_aside(self) -> list[str]:
        """Return a line for each file that could not be read: why, and where it is."""
        return list(self._set_aside.values())

    def path(self, cell: Cell) -> Path:
        """Return the path of a cell's record."""
        return self.cells / f"{cell.id.replace('/', '--')}.json"

    def checkpoint(self, cell: Cell, name: str) -> Path:
        """Return the path of a cell's checkpoint ``name`` (``middle`` or ``final``)."""
        return self.folder / "checkpoints" / cell.id / f"{name}.pt"

    def write(self, record: Record) -> Path:
        """Write a record and return its path; after that it survives a crash of this machine.

        A file there that cannot be read, or that a newer version wrote, is moved and named.
        """
        path = self.path(record.cell)
        if os.path.lexists(path) and (why := self._wrong(path)):
            kept = self.cells / "set_aside" / f"{path.stem}.{uuid.uuid4().hex[:8]}.json"
            kept.parent.mkdir(exist_ok=True)
            os.replace(path, kept)
            self._set_aside[path] = bounds.line(f"{path} {why}: moved to {kept}, written anew")
        write_atomically(path, json.dumps(record.to_dict(), indent=1).encode())
        return path

    def tidy(self) -> None:
        """Remove what a killed run left half written. Only one run at a time may use the folder."""
        found = list(self.folder.glob(".*.tmp"))
        for name in ("cells", "checkpoints", "samples"):
            found += (self.folder / name).glob("**/.*.tmp")
        for left in found:
            files.remove(left)

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
        """Read a record's file; if that cannot be, say why in ``set_aside`` and return None."""
        if not os.path.lexists(path):
            return None
        found = self._load(path)
        if isinstance(found, Record):
            return found
        self._set_aside[path] = bounds.line(f"{path} {found}: left as it is, counts as not run")
        return None

    def _wrong(self, path: Path) -> str:
        """Return what is wrong with a record's file; empty if it can be read."""
        found = self._load(path)
        return "" if isinstance(found, Record) else found

    def _load(self, path: Path) -> Record | str:
        """Return the record in a file, or what is wrong with it."""
        try:
            record = Record.from_dict(json.loads(bounds.read_bytes(path)))
        except NewerRecordError as error:
            return f"was written by a newer Decathlon ({error})"
        except FileNotFoundError:
            return "is no record (a link to nothing)"
        except (ValueError, RecursionError) as error:
            return f"is no record ({error})"
        if self.path(record.cell).name != path.name:
            return f"is no record by its name (it holds that of {record.cell.id})"
        return record
