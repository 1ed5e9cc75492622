"""Records on disk: they come back exactly, and damage is set aside."""

from dataclasses import replace

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
def test_a_corrupt_record_is_set_aside_and_reported(tmp_path, damage):
    store = Store(tmp_path)
    path = store.write(RECORD)
    other = replace(RECORD, cell=replace(RECORD.cell, seed=1))
    store.write(other)
    path.write_bytes(damage)
    assert list(store) == [other] and store.read(RECORD.cell) is None
    assert len(store.set_aside) == 1 and str(path) in store.set_aside[0]
    assert [p.read_bytes() for p in (tmp_path / "cells/corrupt").iterdir()] == [damage]


def test_a_failed_write_leaves_the_old_content_and_no_temporary_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_atomically(path, b"old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
