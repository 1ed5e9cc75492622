"""A run's folder belongs to one process at a time."""

import os
import subprocess
import sys

import pytest
from toy import Toy

from harness.cell import UsageError
from harness.results.lock import FolderLock
from harness.runs import Run

HOLDER = """
import sys
from pathlib import Path
from harness.results.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder, until it is killed."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    made = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert made.stdout.readline() == "held\n"
    yield made
    made.kill()
    made.wait()


def test_a_second_run_is_told_who_holds_the_folder(tmp_path, holder):
    with pytest.raises(UsageError, match=rf"is in use by process {holder.pid} on .+ since 20"):
        FolderLock(tmp_path).acquire()


def test_the_lock_ends_with_its_process(tmp_path, holder):
    holder.kill()
    holder.wait()
    lock = FolderLock(tmp_path)
    lock.acquire()
    assert f"process {os.getpid()} " in (tmp_path / ".holder").read_text()
    lock.release()


def test_it_can_be_taken_twice_by_its_holder_and_again_after_release(tmp_path):
    lock = FolderLock(tmp_path)
    lock.acquire()
    lock.acquire()
    with pytest.raises(UsageError, match="in use"):
        FolderLock(tmp_path).acquire()
    lock.release()
    lock.release()
    FolderLock(tmp_path).acquire()


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=rf"run folder .*{name} cannot be written: \w+"):
        FolderLock(tmp_path / name).acquire()


def test_a_run_holds_its_folder_from_its_start_to_its_end(tmp_path):
    runs = [Run(tmp_path, {"toy": Toy()}, "smoke") for _ in range(2)]
    runs[0].start([])
    left = tmp_path / ".cells.csv.1a2b.tmp"
    left.write_bytes(b"being written by the first")
    with pytest.raises(UsageError, match=f"in use by process {os.getpid()} "):
        runs[1].start([])
    assert left.exists()
    runs[0].close()
    runs[1].start([])
    runs[1].close()
    assert not left.exists()
