"""Records on disk: they come back exactly, and what cannot be read is kept and named."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cell import Budget, Cell
from harness.files import write_atomically
from harness.results.record import Record
from harness.results.store import Store

RECORD = Record(
    Cell("vgg", "vgg11", "ce", "cosine"), "f", "done", budget=Budget(1, 2), metrics={"a": 0.1 + 0.2}
)


def test_a_record_comes_back_exactly(tmp_path):
    store = Store(tmp_path)
    store.write(RECORD)
    assert store.read(RECORD.cell) == RECORD and list(store) == [RECORD]


def test_there_may_be_none(tmp_path):
    assert Store(tmp_path).read(RECORD.cell) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"id": "x"}', b"\xff\x00", b"null"])
def test_a_corrupt_record_is_named_by_reading_and_moved_by_writing(tmp_path, damage):
    store = Store(tmp_path)
    path = store.write(RECORD)
    other = replace(RECORD, cell=replace(RECORD.cell, seed=1))
    store.write(other)
    path.write_bytes(damage)
    assert list(store) == [other] and store.read(RECORD.cell) is None
    assert len(store.set_aside) == 1 and f"{path} is no record" in store.set_aside[0]
    assert path.read_bytes() == damage
    store.write(RECORD)
    assert list(store) == [RECORD, other]
    (kept,) = (tmp_path / "cells/set_aside").iterdir()
    assert kept.read_bytes() == damage
    assert len(store.set_aside) == 1 and str(kept) in store.set_aside[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, "version 2, known is 1"),
        ({"version": 2, "status": "pruned", "cell": []}, "version 2, known is 1"),
        ({"energy_j": 1.0}, "unknown fields energy_j"),
        ({"budget": {"steps": 1, "batch_size": 2, "flops": 3}}, "unknown fields budget.flops"),
    ],
)
def test_a_record_of_a_newer_version_is_named_and_never_lost(tmp_path, change, says):
    store = Store(tmp_path)
    path = store.write(RECORD)
    newer = json.dumps(json.loads(path.read_text()) | change)
    path.write_text(newer)
    assert store.read(RECORD.cell) is None and store.trained(RECORD.cell, "f") is None
    assert f"{path} was written by a newer Decathlon ({says})" in store.set_aside[0]
    assert path.read_text() == newer
    store.write(RECORD)
    (kept,) = (tmp_path / "cells/set_aside").iterdir()
    assert kept.read_text() == newer and str(kept) in store.set_aside[0]


def test_a_folder_in_a_records_place_is_kept_with_what_is_in_it(tmp_path):
    store = Store(tmp_path)
    path = store.path(RECORD.cell)
    (path / "mine").mkdir(parents=True)
    assert store.write(RECORD) == path and store.read(RECORD.cell) == RECORD
    assert len(list((tmp_path / "cells/set_aside").glob("*/mine"))) == 1


def test_a_record_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    store = Store(tmp_path)
    path = store.write(RECORD)
    monkeypatch.setattr(Path, "read_bytes", lambda _: os.scandir("/dev/null"))
    assert list(store) == []
    assert store.set_aside == [
        f"{path} is no record (Not a directory): left as it is, counts as not run"
    ]


def test_a_record_without_a_version_is_of_the_first(tmp_path):
    store = Store(tmp_path)
    path = store.write(RECORD)
    values = json.loads(path.read_text())
    assert values.pop("version") == 1
    path.write_text(json.dumps(values))
    assert store.read(RECORD.cell) == RECORD and not store.set_aside


def test_a_failed_write_leaves_the_old_content_and_no_temporary_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_atomically(path, b"old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_tidy_removes_what_a_kill_left_half_written_files_and_folders(tmp_path):
    shards = tmp_path / "checkpoints" / "vgg" / ".final.pt.1a2b.tmp"
    shards.mkdir(parents=True)
    (shards / "shard").write_bytes(b"half")
    (tmp_path / ".cells.csv.3c4d.tmp").write_bytes(b"half")
    kept = tmp_path / "checkpoints" / "vgg" / "final.pt"
    kept.write_bytes(b"whole")
    users = tmp_path / "mine" / ".notes.tmp"  # where the folder is not the run's alone
    users.parent.mkdir()
    users.write_bytes(b"mine")
    Store(tmp_path).tidy()
    assert users.read_bytes() == b"mine"
    assert not shards.exists() and not (tmp_path / ".cells.csv.3c4d.tmp").exists()
    assert kept.read_bytes() == b"whole"
