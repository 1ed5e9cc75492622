"""Checkpoint files: what damage, other files and a full disk do, and older versions."""

import os
import pickle
import resource
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from small import Net, Run, canonical
from torch import nn

from harness import checkpoint
from harness.checkpoint import CheckpointError, digest, state


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run.pt"
    checkpoint.save(path, Run("adam", "multistep").train(0, 2).state_dict(note="ä", raw=b"\xff"))
    return path


def test_a_flipped_bit_is_found_or_changes_nothing(saved: Path) -> None:
    raw = saved.read_bytes()
    expected = canonical(checkpoint.load(saved))
    refused = 0
    for position in range(0, len(raw), max(1, len(raw) // 400)):
        damaged = bytearray(raw)
        damaged[position] ^= 1 << position % 8
        saved.write_bytes(damaged)
        try:
            content = checkpoint.load(saved)
        except CheckpointError:
            refused += 1
        else:
            assert canonical(content) == expected, position
    assert refused > 50


def test_every_flip_inside_a_tensor_is_found(tmp_path: Path) -> None:
    path = tmp_path / "one.pt"
    weights = torch.arange(64, dtype=torch.float32) + 0.5
    checkpoint.save(path, {"w": weights})
    raw = path.read_bytes()
    start = raw.index(weights.numpy().tobytes())
    for bit in range(0, 64 * 32, 7):
        damaged = bytearray(raw)
        damaged[start + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.load(path)


def test_every_truncation_is_refused(saved: Path) -> None:
    raw = saved.read_bytes()
    for length in [*range(0, len(raw), max(1, len(raw) // 150)), len(raw) - 1]:
        saved.write_bytes(raw[:length])
        with pytest.raises(CheckpointError, match=saved.name):
            checkpoint.load(saved)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 4096,
        b"step,loss\n1,0.5\n",
        b"<!DOCTYPE html><html></html>",
        b"PK\x03\x04",
        b"\x80",
    ],
    ids=["empty", "zeros", "text", "html", "zip_start", "pickle_start"],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.pt"
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="bad.pt") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pt", tmp_path):
        said = f"{path.name}(: there is no such file| is no checkpoint)"
        with pytest.raises(CheckpointError, match=said):
            checkpoint.load(path)


@pytest.mark.parametrize(
    "content",
    [nn.Linear(2, 2).state_dict(), [1, 2], torch.zeros(3), {"format": "other", "version": 2}],
    ids=["state_dict", "list", "tensor", "other_format"],
)
def test_other_peoples_files_are_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="is no decathlon-checkpoint"):
        checkpoint.load(path)


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("how", ["pickle", "torch", "legacy", "replaced"])
def test_a_malicious_pickle_is_refused_and_not_run(how: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.pt"
    content = {"format": checkpoint.FORMAT, "version": 2, "evil": Malicious(marker)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content, 2))
    elif how == "replaced":  # the pickle inside a good checkpoint
        good = tmp_path / "good.pt"
        checkpoint.save(good, {"w": torch.ones(2)})
        with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                new.writestr(
                    name, pickle.dumps(content, 2) if name.endswith("/data.pkl") else old.read(name)
                )
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(CheckpointError, match="evil.pt"):
        checkpoint.load(path)
    assert not marker.exists()
    if how in ("torch", "legacy"):  # it would have been run
        torch.load(path, weights_only=False)
        assert marker.exists()


def seal(path: Path, content: dict[str, Any], version: object) -> None:
    body = {**content, "format": checkpoint.FORMAT, "version": version}
    torch.save({**body, "sha256": digest(body)}, path)


def test_version_1_is_migrated(tmp_path: Path) -> None:
    path, old = tmp_path / "old.pt", Net(3)
    model = checkpoint.plain(old.state_dict())
    seal(path, {"model": model, "cell": "a/b"}, 1)
    content = checkpoint.load(path)
    assert digest(content) == digest({"networks": {"model": model}, "cell": "a/b"})
    network = Net(4)
    state.restore(content, {"model": network}, {}, {})
    assert digest(network.state_dict()) == digest(model)
    seal(path, {"weights": model}, 1)
    with pytest.raises(CheckpointError, match="old.pt is no whole version 1"):
        checkpoint.load(path)


@pytest.mark.parametrize("version", [99, checkpoint.VERSION + 1, 0, -1, "2", None, 2.0])
def test_other_versions_are_refused(version: object, tmp_path: Path) -> None:
    path = tmp_path / "new.pt"
    seal(path, {"networks": {}}, version)
    with pytest.raises(CheckpointError, match="new.pt has version"):
        checkpoint.load(path)


def test_a_version_cannot_be_changed_behind_the_seal(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    checkpoint.save(path, {"model": {"w": torch.ones(2)}})
    torch.save({**torch.load(path, weights_only=True), "version": 1}, path)
    with pytest.raises(CheckpointError, match="SHA-256"):
        checkpoint.load(path)


def replace_fails(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_failed_save_keeps_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()
    sparse = torch.ones(2).to_sparse()
    values: list[object] = [lambda: 0, defaultdict(int), {1, 2}, torch.nn, 1j, b"", sparse]
    for value in values:
        with pytest.raises(CheckpointError, match=r"run.pt was not saved: TypeError"):
            checkpoint.save(saved, {"tensor": torch.ones(9), "value": value})
    with pytest.raises(CheckpointError, match="version"):
        checkpoint.save(saved, {"version": 3})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_fails)
        with pytest.raises(CheckpointError, match="No space left"):
            checkpoint.save(saved, {"tensor": torch.ones(9)})
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_disk_that_takes_no_more_keeps_the_old_file(saved: Path) -> None:
    before = saved.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match="was not saved"):
            checkpoint.save(saved, {"tensor": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_save_makes_the_folder_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.pt"
    for value in (1, 2):
        checkpoint.save(path, {"value": value})
        assert checkpoint.load(path) == {"value": value}
    assert os.listdir(path.parent) == [path.name]
