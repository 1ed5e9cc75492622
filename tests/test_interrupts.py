"""A signal that ends a process ends a run as Ctrl-C does: report written, nothing left."""

import contextlib
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from processes import ends, kill_all, processes

HERE = Path(__file__).parent
CONFTEST = (HERE / "toy.py").read_text() + (
    "\n\ndef pytest_decathlon_topics():\n    return [Toy(misbehave='hang', at=10, once='hangs')]\n"
)
EXPERIMENT = """
import pytest

@pytest.mark.decathlon(topic="toy")
def test_toy(record):
    record.check()
"""


@pytest.fixture
def project(tmp_path, short_folder):
    """A project one of whose cells hangs, and a temporary folder of its own."""
    folder, temporary = tmp_path, short_folder()
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
        preexec_fn=partial(signal.signal, number, signal.SIG_DFL),  # nohup has it ignored
    )
    while not (folder / "hangs").exists():
        with contextlib.suppress(subprocess.TimeoutExpired):
            call.wait(0.05)
            pytest.fail(f"the run ended by itself: {call.stdout.read()}")
    call.send_signal(number)
    said = call.stdout.read().splitlines()
    assert call.wait() == 2, "\n".join(said)
    records = list((folder / "results/smoke/cells").glob("*.json"))
    assert any("decathlon: see " in line for line in said) or not records, said
    assert any("Interrupt" in line for line in said), said
    for pid in processes(temporary):
        assert ends(pid)
    assert not list(temporary.glob("decathlon-*"))
