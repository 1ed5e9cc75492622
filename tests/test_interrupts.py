"""A signal that ends a process ends a run as Ctrl-C does: report written, nothing left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ends, kill_all, processes

HERE = Path(__file__).parent
CONFTEST = (HERE / "toy.py").read_text() + (
    "\n\ndef pytest_decathlon_topics():\n    return [Toy(misbehave='hang', at=30)]\n"
)
EXPERIMENT = """
import pytest

@pytest.mark.decathlon(topic="toy")
def test_toy(record):
    record.check()
"""


@pytest.fixture
def project(tmp_path):
    """A pytest call with cells that hang, in a temporary folder of its own."""
    folder, temporary = tmp_path / "project", tmp_path / "t"
    for path in (folder, temporary):
        path.mkdir()
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_own.py").write_text(EXPERIMENT)
    yield folder, temporary
    kill_all(temporary)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_run_in_order(project, number):
    folder, temporary = project
    call = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--profile", "smoke", "-p", "no:cacheprovider"],
        cwd=folder,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
    )
    said = []
    for line in call.stdout:  # ddp's ranks count calls of their own, and single's twice as many
        said.append(line)
        if " done " in line or "cells to train" in line:
            break
    call.send_signal(number)
    said += call.stdout.read().splitlines()
    assert call.wait() == 2, said
    assert any("see " in line or "no page" in line for line in said) or not list(
        (folder / "results/smoke/cells").glob("*.json")
    ), said
    for pid in processes(temporary):
        assert ends(pid)
    assert not list(temporary.glob("decathlon-*"))
