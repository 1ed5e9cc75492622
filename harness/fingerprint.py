"""Hash what decides a cell's numbers: on one machine, equal hashes mean equal numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
DECIDING = ("axes", "checkpoint", "training", "trial")  # rooms; a topic's own folder beside them


@cache
def code_hash() -> str:
    """Hash all code in the rooms that decide a cell's numbers, whatever the topic."""
    shared = (HERE / "topics").glob("*.py")  # what topics share, and those of a single file
    return _hash([*shared, *(path for room in DECIDING for path in (HERE / room).rglob("*.py"))])


def topic_hash(topic: object) -> str:
    """Hash the code of a topic: its package's folder, or its file if it is in no package."""
    file = Path(inspect.getfile(type(topic)))
    return _folder_hash(file.parent) if (file.parent / "__init__.py").exists() else _hash([file])


@cache
def _folder_hash(folder: Path) -> str:
    return _hash(folder.rglob("*.py"))


def _hash(files: Iterable[Path]) -> str:
    sha = hashlib.sha256()
    for path in sorted(files):
        sha.update(f"{path.name} {path.stat().st_size};".encode())
        sha.update(path.read_bytes())
    return sha.hexdigest()[:12]


def fingerprint(**parts: object) -> str:
    """Hash named parts that together decide a cell's numbers, to 12 hex digits.

    Dataclasses and plain values only, else TypeError; equal parts give equal fingerprints on every
    machine.
    """

    def plain(value: object) -> object:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {"": type(value).__qualname__, **dataclasses.asdict(value)}
        raise TypeError(f"{type(value).__name__} has no place in a fingerprint")

    text = json.dumps(parts, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
