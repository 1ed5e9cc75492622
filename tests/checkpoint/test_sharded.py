"""Checkpoints in parts: read without ranks, damaged, and unable to run code."""

import os
from dataclasses import replace

import pytest
from toy import Toy, outcome

from harness import checkpoint
from harness.cell import Budget, Cell
from harness.checkpoint import tree
from harness.checkpoint.io import write_sealed

BUDGET = Budget(steps=20, batch_size=8, timeout_s=120)
CELL = Cell("toy", "line", "mse", "cosine")


@pytest.fixture(scope="module")
def shards(executor, tmp_path_factory):
    """A checkpoint in shards and its content."""
    folder = tmp_path_factory.mktemp("run")
    cell = replace(CELL, model="dropout", parallel="fsdp")
    assert outcome(executor, Toy(), cell, folder).status == "done"
    path = folder / "checkpoints" / cell.id / "final.pt"
    assert path.is_dir()
    return path


def copied(path, tmp_path):
    import shutil

    return shutil.copytree(path, tmp_path / "final.pt")


def test_shards_need_no_ranks(shards):
    saved = checkpoint.load(shards)
    network = Toy().networks(replace(CELL, model="dropout"))["model"]
    checkpoint.load_network(network, saved["networks"]["model"])
    assert tree.digest(dict(network.state_dict())) == tree.digest(saved["networks"]["model"])


@pytest.mark.parametrize("part", ["__0_0.distcp", "__1_0.distcp", ".metadata", "rest.pt"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "empty"])
def test_a_damaged_part_is_our_one_error(shards, tmp_path, part, damage):
    path = copied(shards, tmp_path)
    data = bytearray((path / part).read_bytes())
    if damage == "missing":
        (path / part).unlink()
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        (path / part).write_bytes(data)
    else:
        (path / part).write_bytes(data[: len(data) // 2] if damage == "truncated" else b"")
    with pytest.raises(tree.CheckpointError):
        checkpoint.load(path)


def test_an_index_that_would_run_code_does_not(shards, tmp_path):
    """Even with its hash put right in a file that is sealed again."""
    import pickle

    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    path = copied(shards, tmp_path)
    (path / ".metadata").write_bytes(pickle.dumps(Harm()))
    rest = checkpoint.load(path / "rest.pt")
    files = rest.pop("shards") | {".metadata": _sha256(path / ".metadata")}
    write_sealed(path / "rest.pt", {**rest, "shards": files})
    with pytest.raises(tree.CheckpointError, match="names .*mkdir"):
        checkpoint.load(path)
    assert not (tmp_path / "harm").exists()


def _sha256(path):
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
