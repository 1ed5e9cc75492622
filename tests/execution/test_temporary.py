"""Temporary folders that a killed process left are swept, and no others."""

import subprocess
import sys

from harness.execution import temporary

OWNER = """
import signal
from harness.execution import temporary
folder, lock = temporary.make()
print(folder, flush=True)
signal.pause()
"""


def test_a_folder_is_swept_once_its_owner_was_killed(short_folder, monkeypatch):
    tmp_path = short_folder()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(temporary.tempfile, "tempdir", None)
    foreign = tmp_path / "decathlon-of-another-program"
    foreign.mkdir()
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    theirs = tmp_path / owner.stdout.readline().strip()
    assert theirs.parent == tmp_path
    ours, lock = temporary.make()
    assert theirs.exists()
    owner.kill()
    owner.wait()
    owner.stdout.close()
    temporary.sweep(tmp_path)
    assert set(tmp_path.iterdir()) == {ours, foreign}
    lock.close()
