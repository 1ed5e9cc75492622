"""Write a checkpoint atomically and read it back, checked by its SHA-256 (note 100)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from harness.axes import parallel
from harness.checkpoint import sharded
from harness.checkpoint.tree import CheckpointError, digest
from harness.files import atomic_file, replace

FORMAT = "decathlon-checkpoint"
VERSION = 2
REST = "rest.pt"  # in a folder of parts: all that is not sharded
SEAL = ("format", "version", "sha256")  # keys that save adds to the tree and load takes off


def save(path: Path, tree: Mapping[str, object]) -> int:
    """Write a tree of tensors and plain values as a checkpoint; return its size in bytes.

    It is written atomically and through to the disk.

    Ranks call it together, and the first writes (the others return 0); a tree with sharded tensors
    becomes a folder to which each rank adds its part, all else a file that
    ``torch.load(path, weights_only=True)`` reads too. Raises CheckpointError, and leaves what was
    at ``path``, if the tree holds other values or the disk does not take it.
    """
    path = Path(path)
    if taken := [key for key in (*SEAL, "shards") if key in tree]:
        raise CheckpointError(f"{path} was not saved: the content uses the keys {taken}")
    rest, tensors = sharded.split(tree)
    first = parallel.is_rank_zero()
    if not tensors:
        return write_sealed(path, rest) if first else 0
    temporary = path.with_name(f".{path.name}.sharded.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        dist.barrier()
        temporary.mkdir(parents=True, exist_ok=True)
        files, size = sharded.write(temporary, tensors)
        if first:
            size += write_sealed(temporary / REST, {**rest, "shards": files})
            replace(temporary, path)
        dist.barrier()
        if temporary.is_dir():  # on a machine of its own
            replace(temporary, path)
    except OSError as error:
        raise CheckpointError(f"{path} was not saved: {_line(error)}") from error
    return size


def write_sealed(path: Path, tree: Mapping[str, object]) -> int:
    """Write a tree to one file with its format, its version and a SHA-256 over all three.

    Returns the size in bytes. Raises CheckpointError, and leaves what was at ``path``.
    """
    body = {**tree, "format": FORMAT, "version": VERSION}
    try:
        sealed = {**body, "sha256": digest(body)}
        with atomic_file(path) as file:
            torch.save(sealed, file)
            size = file.tell()
    except Exception as error:
        raise CheckpointError(f"{path} was not saved: {_line(error)}") from error
    return size


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint, file or folder, and return its tree on the CPU, older versions migrated.

    Raises CheckpointError if there is none, or it is damaged or of a later version.

    Only tensors and plain values are read (weights_only): a file cannot run code. Of a folder all
    parts are put together; no ranks are needed for it.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / REST).is_file():
            raise CheckpointError(f"{path} is no checkpoint: it has no {REST}")
        tree = load(path / REST)
        return sharded.join(tree, path, tree.pop("shards", {}))
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file")
    try:
        tree = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # six types for six kinds of damage
        raise CheckpointError(f"{path} is damaged or no checkpoint: {_line(error)}") from error
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no {FORMAT}")
    version = tree.get("version")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise CheckpointError(f"{path} has version {version!r}; this program reads 1 to {VERSION}")
    expected = tree.pop("sha256", None)
    try:
        intact = digest(tree) == expected
    except Exception:
        intact = False
    if not intact:
        raise CheckpointError(f"{path} is damaged: its content does not match its SHA-256")
    tree = {key: value for key, value in tree.items() if key not in SEAL}
    try:
        for old in range(version, VERSION):
            tree = MIGRATIONS[old](tree)
    except Exception as error:
        raise CheckpointError(f"{path} is no whole version {old}: {_line(error)}") from error
    return tree


def _from_version_1(tree: dict[str, Any]) -> dict[str, Any]:
    """Migrate version 1: one network's tensors under ``model``, nothing to resume from."""
    model = tree.pop("model")
    return {**tree, "networks": {"model": model}}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_version_1}


def _line(error: BaseException) -> str:
    """Return an error as one line, without torch.load's advice to trust the file."""
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200] if text else 'no message'}"
