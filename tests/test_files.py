"""Files that are there whole or not at all."""

import pytest

from harness.files import atomic_file, cache_folder, remove, replace, write_atomically


def test_a_file_is_written_over_another_and_its_folder_made(tmp_path):
    path = tmp_path / "a" / "b.txt"
    for data in (b"old", b"new"):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


def test_what_raises_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "b.txt"
    write_atomically(path, b"old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(b"ne")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old" and [*tmp_path.iterdir()] == [path]


def make(path, kind):
    if kind == "folder":
        path.mkdir()
        (path / "part").write_text("x")
    elif kind == "file":
        path.write_text("x")


@pytest.mark.parametrize("old", ["nothing", "file", "folder"])
@pytest.mark.parametrize("new", ["file", "folder"])
def test_a_file_or_folder_takes_the_place_of_either(tmp_path, old, new):
    path, temporary = tmp_path / "it", tmp_path / ".it.tmp"
    make(path, old)
    make(temporary, new)
    replace(temporary, path)
    assert path.is_dir() == (new == "folder") and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("kind", ["nothing", "file", "folder"])
def test_what_is_there_is_removed(tmp_path, kind):
    make(tmp_path / "it", kind)
    remove(tmp_path / "it")
    assert not [*tmp_path.iterdir()]


def test_a_file_never_takes_the_place_of_a_user_s_folder(tmp_path):
    (tmp_path / "cells.csv").mkdir()
    (tmp_path / "cells.csv" / "mine").write_text("kept")
    with pytest.raises(IsADirectoryError, match="a folder is in the file's place"):
        write_atomically(tmp_path / "cells.csv", b"new")
    assert (tmp_path / "cells.csv" / "mine").read_text() == "kept"


def test_the_cache_folder_is_xdgs(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("fid") == tmp_path / "decathlon" / "fid"
