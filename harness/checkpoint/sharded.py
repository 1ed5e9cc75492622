"""Write and read sharded tensors with torch.distributed.checkpoint (DCP).

Each rank writes its part; any number of ranks, or a process without any, reads them whole. Of a
checkpoint's tree only the sharded tensors come here; in the tree itself a marker, a dict with the
key MARK, stands for each. A folder holds a file of tensors per rank and DCP's index, ``.metadata``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from harness.axes import parallel
from harness.checkpoint.tree import CheckpointError

if TYPE_CHECKING:
    from torch.distributed.checkpoint import FileSystemReader
    from torch.distributed.tensor import DTensor

MARK = "sharded tensor"
INDEX = ".metadata"
SAFE = {  # all that DCP's index of tensors is made of
    *(("torch", name) for name in ("Size", "device", "dtype", "float16", "bfloat16")),
    *(("torch", name) for name in ("float32", "float64", "int64", "int32", "uint8", "bool")),
    ("torch.serialization", "_get_layout"),
    ("collections", "OrderedDict"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),
}


def split(tree: Any) -> tuple[Any, dict[str, DTensor]]:
    """Replace a tree's sharded tensors by markers; return the tree and those tensors by name."""
    found: dict[str, DTensor] = {}

    def walk(value: Any, path: tuple[str, ...]) -> Any:
        if parallel.is_sharded_tensor(value):
            name = "/".join(path)
            found[name] = value
            return {MARK: name, "shape": list(value.shape), "dtype": str(value.dtype)}
        if isinstance(value, Mapping) and type(value) is dict:
            return {key: walk(item, (*path, str(key))) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item, (*path, str(index))) for index, item in enumerate(value)]
        return value

    return walk(tree, ()), found


def write(folder: Path, tensors: dict[str, DTensor]) -> tuple[dict[str, str], int]:
    """Write this rank's part of sharded tensors into a folder; all ranks call it together.

    Returns each file's SHA-256 by name, and the bytes of all files, on rank 0; elsewhere an empty
    dict and 0. The ranks' folders may be one or, on several machines, each its own. Raises OSError
    if a rank could not write.
    """
    import torch.distributed.checkpoint as dcp  # late: it takes half a second

    try:
        with _quietly():
            dcp.save(tensors, storage_writer=dcp.FileSystemWriter(folder, sync_files=True))
    except dcp.CheckpointException as error:
        raise OSError(str(error)) from error
    own = [*folder.glob(f"__{dist.get_rank()}_*")]
    if parallel.is_rank_zero():
        own.append(folder / INDEX)
    found = [(path.name, _sha256(path), path.stat().st_size) for path in own]
    parts = [part for parts in parallel.gather_to_rank_zero(found) for part in parts]
    return {name: sha for name, sha, _ in sorted(parts)}, sum(size for *_, size in parts)


def join(tree: Any, folder: Path, files: Mapping[str, str]) -> Any:
    """Replace the markers that ``split`` left in a tree by whole tensors, read from a folder.

    The tensors are on the CPU. files: the SHA-256 that ``write`` returned. Raises CheckpointError
    if a file is missing, changed or cut short, or holds anything but tensors.
    """
    for name, expected in files.items():
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is damaged: its part {name} is missing")
        if _sha256(folder / name) != expected:
            raise CheckpointError(f"{folder} is damaged: its part {name} does not match its hash")
    import torch.distributed.checkpoint as dcp

    tensors: dict[str, Tensor] = {}

    def walk(value: Any) -> Any:
        if isinstance(value, dict) and MARK in value:
            name, dtype = value[MARK], getattr(torch, value["dtype"].removeprefix("torch."))
            return tensors.setdefault(name, torch.empty(value["shape"], dtype=dtype))
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item) for item in value]
        return value

    try:
        tree, reader = walk(tree), _reader(folder)
        reader.read_metadata()
        with _quietly():
            dcp.load(dict(tensors), storage_reader=reader, no_dist=True)
    except (Exception, dcp.CheckpointException) as error:  # the latter is no Exception
        first = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"{folder} is damaged: {first[0][:200]}") from error
    return tree


def _reader(folder: Path) -> FileSystemReader:
    """Return a reader of DCP's files that unpickles nothing but the classes of DCP's index."""
    from torch.distributed.checkpoint import FileSystemReader
    from torch.distributed.checkpoint.metadata import Metadata

    class Reader(FileSystemReader):
        def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
            index = _Unpickler(io.BytesIO((folder / INDEX).read_bytes())).load()
            if not isinstance(index, Metadata):
                raise pickle.UnpicklingError(f"{INDEX} is no index")
            return index

    return Reader(folder)


class _Unpickler(pickle.Unpickler):
    """An unpickler that makes only DCP's own classes and what SAFE names."""

    def find_class(self, module: str, name: str) -> Any:
        own = module.startswith("torch.distributed.checkpoint.") and not name.startswith("__")
        if own:
            found = super().find_class(module, name)
            if isinstance(found, type):
                return found
        elif (module, name) in SAFE:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{INDEX} names {module}.{name}, which no index needs")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence DCP's logging and warnings for the block."""
    logger = logging.getLogger("torch.distributed.checkpoint")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logger.setLevel(before)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
