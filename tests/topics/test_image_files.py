"""torchvision's files as downloads and disks leave them: each damage is one line that names it."""

import struct

import pytest
import torch
from torchvision import datasets as torchvision_datasets

from harness.cell import UsageError
from harness.topics import datasets, image_files

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(*shape, value=1):
    """An IDX file of one value."""
    head = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
    return head + bytes([value]) * int(torch.tensor(shape).prod())


@pytest.fixture
def raw(tmp_path):
    """The folder of a whole, small MNIST: 6 images for training, 4 for testing."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for half, count in (("train", 6), ("t10k", 4)):
        (folder / f"{half}-images-idx3-ubyte").write_bytes(idx(count, 28, 28, value=200))
        (folder / f"{half}-labels-idx1-ubyte").write_bytes(idx(count, value=9))
    return folder


def read(raw, download=False):
    return datasets.images("mnist", str(raw.parents[1]), download)


def refused(raw, download=False):
    """The line that says why a dataset is refused."""
    with pytest.raises(UsageError) as caught:
        read(raw, download)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("download", [False, True])
def test_a_whole_one_is_read(raw, download):
    split = read(raw, download)
    assert split.train_x.shape == (6, 1, 28, 28) and split.test_x.shape == (4, 1, 28, 28)
    assert split.train_x.unique().tolist() == [200] and split.test_y.tolist() == [9] * 4


@pytest.mark.parametrize("download", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (IMAGES, b"", "is empty"),
        (LABELS, b"<!DOCTYPE html><html>", "is a web page"),
        (IMAGES, idx(6, 28, 28)[:-10], "is truncated: 4,694 bytes of 4,704"),
        (IMAGES, idx(6, 28, 28)[:9], "is truncated"),
        (IMAGES, idx(6, 28, 28) + b"1", "is too long: 4,705 bytes of 4,704"),
        (IMAGES, b"text, not images", "is no IDX file of images"),
        (LABELS, idx(6, 28, 28), "is no IDX file of labels"),
        (IMAGES, idx(0, 28, 28), "holds no images"),
    ],
)
def test_a_damaged_file_is_named_and_to_be_removed(raw, name, content, words, download):
    (raw / name).write_bytes(content)
    line = refused(raw, download)
    assert f"{raw / name} {words}" in line
    assert "remove it" in line and "add --download" not in line


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (LABELS, idx(5), "the training half has 6 images but 5 labels"),
        (LABELS, idx(6, value=10), "the training half has a label 10: labels are 0 to 9"),
        (IMAGES, idx(6, 27, 28), "the training half has images of 1x27x28, not 1x28x28"),
    ],
)
def test_what_does_not_belong_together_is_said(raw, name, content, words):
    (raw / name).write_bytes(content)
    line = refused(raw)
    assert words in line and "--download" not in line


def test_what_is_missing_may_be_fetched(raw):
    (raw / LABELS).unlink()
    line = refused(raw)
    assert f"is not in {raw}: {LABELS} missing; add --download to fetch it" in line


def test_a_download_that_fails_is_not_advised_again(raw, monkeypatch):
    def fail(self):
        raise RuntimeError("Error downloading:\nTried a mirror, got:\nno network")

    monkeypatch.setattr(torchvision_datasets.MNIST, "download", fail)
    (raw / LABELS).unlink()
    line = refused(raw, download=True)
    assert "could not be fetched" in line and "no network" in line
    assert "add --download" not in line


def test_cifar_s_files_are_told_apart(tmp_path):
    home, files = image_files._files("cifar10", tmp_path)
    with pytest.raises(UsageError, match=f"is not in {home}; add --download to fetch it"):
        datasets.images("cifar10", str(tmp_path))
    home.mkdir()
    for file in files:
        file.write_bytes(b"short")
    with pytest.raises(UsageError, match=r"data_batch_1 is damaged: remove it"):
        datasets.images("cifar10", str(tmp_path))


def test_a_data_folder_that_is_a_file_is_said(tmp_path):
    (tmp_path / "file").touch()
    for download in (False, True):
        with pytest.raises(UsageError, match="file"):
            datasets.images("mnist", str(tmp_path / "file"), download)
