"""A worker process that a task has spoiled is not used again, and its children end."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import ends
from toy import Toy

from harness.cell import Budget, Cell, UsageError
from harness.execution import hygiene
from harness.execution.local import LocalExecutor
from harness.trial.task import Task

CELL = Cell("toy", "line", "mse", "cosine")
SPOILERS = {
    "nothing": lambda: None,
    "a closed stream": lambda: sys.stdout.close(),
    "another stream": lambda: setattr(sys, "stderr", sys.__stdout__),
    "a closed file": lambda: os.close(0),
    "another directory": lambda: os.chdir("/"),
    "a child": lambda: subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]),
    "an environment variable": lambda: os.environ.pop("PATH"),
    "a thread": lambda: threading.Thread(target=threading.Event().wait).start(),
    "a signal handler": lambda: signal.signal(signal.SIGALRM, signal.SIG_IGN),
    "umask": lambda: os.umask(0o123),
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "threads of torch": lambda: torch.set_num_threads(2),
    "determinism": lambda: torch.use_deterministic_algorithms(True),
    "gradients": lambda: torch.set_grad_enabled(False),
    "tf32": lambda: torch._C._set_cudnn_allow_tf32(False),
    "tf32, the newer way": lambda: torch._C._set_fp32_precision_setter("cuda", "matmul", "tf32"),
    "tf32 on a CPU": lambda: torch.set_float32_matmul_precision("high"),
    "cudnn": lambda: torch._C._set_cudnn_enabled(False),
    "mkldnn": lambda: torch._C._set_mkldnn_enabled(False),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "errors of NumPy": lambda: np.seterr(all="raise") and None,
    "warnings": lambda: warnings.simplefilter("error"),
}


def pid(task, rank):
    return os.getpid()


@pytest.mark.parametrize("what", SPOILERS)
def test_only_a_process_left_as_it_was_is_used_again(executor, tmp_path, what):
    task = Task(Toy(), CELL, Budget(2, 8, timeout_s=60), tmp_path)

    def spoil(task, rank):
        child = SPOILERS[what]()
        return os.getpid(), getattr(child, "pid", None)

    spoilt, child = executor.call(spoil, task)
    assert (executor.call(pid, task) == spoilt) == (what == "nothing")
    if what != "nothing":
        assert ends(spoilt)
    if child:
        assert ends(child)


def test_where_nothing_tells_of_children_there_are_none(monkeypatch):
    monkeypatch.delattr(os, "waitid")  # as on macOS before Python 3.13
    before = hygiene.surroundings()
    assert before["child processes"] is False and hygiene.spoiled(before) == []


def test_the_children_of_a_worker_that_died_end_with_it(executor, tmp_path):
    task = Task(Toy(), CELL, Budget(2, 8, timeout_s=60), tmp_path)
    told = tmp_path / "child"

    def dies(task, rank):
        told.write_text(str(SPOILERS["a child"]().pid))
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RuntimeError, match="died: killed by SIGKILL"):
        executor.call(dies, task)
    assert ends(int(told.read_text()))


def test_a_task_may_start_processes_of_multiprocessing(executor, tmp_path):
    def loads(task, rank):
        loader = torch.utils.data.DataLoader(torch.arange(6.0), batch_size=3, num_workers=2)
        return [batch.tolist() for batch in loader]

    task = Task(Toy(), CELL, Budget(2, 8, timeout_s=60), tmp_path)
    assert executor.call(loads, task) == [[0, 1, 2], [3, 4, 5]]


ORPHANS = """
import os, signal, subprocess, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from toy import Toy
from harness.cell import Budget, Cell
from harness.execution.local import LocalExecutor
from harness.trial.task import Task

def starts(task, rank):
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    print(os.getpid(), child.pid, flush=True)
    signal.pause()

task = Task(Toy(), Cell("toy", "line", "mse", "cosine"), Budget(2, 8, timeout_s=60), Path("."))
LocalExecutor().call(starts, task)
"""


def test_what_a_worker_started_ends_where_its_parent_is_killed(tmp_path):
    code = ORPHANS.format(tests=str(Path(__file__).parents[1]))
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2 and all(map(ends, pids))


@pytest.mark.parametrize("kind", ["too long", "missing", "of a # in its name"])
def test_a_temporary_folder_that_does_not_serve_is_one_line(tmp_path, monkeypatch, kind):
    folder = tmp_path / {"too long": "x" * 100, "missing": "none"}.get(kind, "a#b")
    if kind != "missing":
        folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.raises(UsageError) as refused:
        LocalExecutor()
    assert str(refused.value).startswith(f"TMPDIR {folder}")
    assert "\n" not in str(refused.value)
    assert not folder.exists() or not list(folder.iterdir())
