"""Hash named parts that together decide a cell's numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any


def fingerprint(**parts: object) -> str:
    """Hash named parts that together decide a cell's numbers, to 12 hex digits.

    Dataclasses and plain values only, else TypeError; equal parts give equal fingerprints on every
    machine. Dataclasses count as ``counted`` says.
    """

    def plain(value: object) -> object:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return counted(value)
        raise TypeError(f"{type(value).__name__} has no place in a fingerprint")

    text = json.dumps(parts, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def counted(value: Any, without: Collection[str] = ()) -> dict[str, Any]:
    """Return what counts of a dataclass in a fingerprint: its name and fields, but some.

    Of a field declared as a place (``options.option``) a file's content counts, not where it lies;
    a folder does not count. A field that came ``later`` counts where it is not its default.
    """
    fields = dataclasses.asdict(value)
    for one in dataclasses.fields(value):
        if one.metadata.get("place"):
            fields[one.name] = _content(fields[one.name])
        if one.name in without or (one.metadata.get("later") and fields[one.name] == one.default):
            del fields[one.name]
    return {"": type(value).__qualname__, **fields}


def _content(place: object) -> str | None:
    """Return a hash of the file at a place; None for a folder or nothing."""
    path = Path(place).resolve() if isinstance(place, str) else None
    if path is None or not path.is_file():
        return None
    stat = path.stat()
    return _content_hash(path, stat.st_mtime_ns, stat.st_size)


@cache
def _content_hash(path: Path, modified_ns: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
