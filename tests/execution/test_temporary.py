"""Temporary folders that a killed process left are swept, and no others."""

import subprocess
import sys
from multiprocessing import util
from pathlib import Path

from harness.execution import temporary

OWNER = """
import signal
from multiprocessing import util
from harness.execution import temporary
folder, lock = temporary.make()
print(folder, util.get_temp_dir(), flush=True)
signal.pause()
"""


def test_a_folder_is_swept_once_its_owner_was_killed(short_folder, monkeypatch):
    util.get_temp_dir()  # of this process, which outlives the folder
    tmp_path = short_folder()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(temporary.tempfile, "tempdir", None)
    foreign = [tmp_path / "decathlon-of-another-program", tmp_path / "pymp-of-another"]
    for folder in foreign:
        folder.mkdir()
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    theirs = [Path(name) for name in owner.stdout.readline().split()]
    assert len(theirs) == 2 and all(folder.parent == tmp_path for folder in theirs)
    ours, lock = temporary.make()
    assert all(folder.exists() for folder in theirs)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    temporary.sweep(tmp_path)
    assert not any(folder.exists() for folder in theirs)
    assert ours.exists() and all(folder.exists() for folder in foreign)
    assert Path(util.get_temp_dir()).exists()
    lock.close()


ENDS = """
from harness.execution.local import LocalExecutor
executor = LocalExecutor()
executor.close()
"""


def test_a_process_that_closed_its_executor_ends_without_a_warning():
    """Projects may have warnings as errors."""
    command = [sys.executable, "-W", "always::ResourceWarning", "-c", ENDS]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
