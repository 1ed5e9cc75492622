"""kill -9 of the run, of a worker and of a rank at random moments: nothing acknowledged is lost."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_plugin import CONFTEST, EXPERIMENT

KILLS = 21


def descendants(pid):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, fields = path.read_text().rsplit(")", 1)
            found.append((int(path.parent.name), int(fields.split()[1])))
        except (OSError, ValueError):
            continue
    inside, grown = {pid}, True
    while grown:
        new = {child for child, parent in found if parent in inside} - inside
        inside |= new
        grown = bool(new)
    return inside - {pid}


def readable(folder):
    kept = {}
    for path in folder.glob("*.json"):
        kept[path.name] = json.loads(path.read_text())["status"]
    return kept


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes through /proc")
def test_kill_9_at_random_moments(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_own.py").write_text(EXPERIMENT)
    command = [sys.executable, "-m", "pytest", "-q", "--profile", "full", "-k", "line and s0"]
    folder = tmp_path / "results/full/cells"
    rng = random.Random(0)
    acknowledged = {}
    for kill in range(KILLS):
        run = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            # wait for news, not for time: some more records than before, then a random moment
            goal = len(acknowledged) + rng.randint(1, 3)
            until = time.monotonic() + 60
            while run.poll() is None and time.monotonic() < until:
                if folder.exists() and len(readable(folder)) >= goal:
                    break
            victims = sorted(descendants(run.pid)) if kill % 3 else [run.pid]
            for victim in rng.sample(victims, min(1, len(victims))):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
        finally:
            run.kill()
            run.wait()
        now = readable(folder)
        for name, status in acknowledged.items():
            assert name in now and (status == "failed" or now[name] == status)
        acknowledged = now
        if run.returncode == 0:
            break
    done = subprocess.run([*command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert set(readable(folder).values()) <= {"done", "skipped"}
    assert not list(folder.glob("corrupt/*"))
