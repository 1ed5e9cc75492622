"""A worker process: what it is forked from, and how it answers."""

import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from toy import Toy

from harness.axes import parallel
from harness.cell import Budget, Cell
from harness.execution import process
from harness.trial.task import Task

CELL = Cell("toy", "line", "mse", "cosine")
REFUSES = """
import torch

class Refuses:
    def run_backward(self, *_, **__):
        raise SystemExit("a backward pass")

torch.autograd.graph.Variable._execution_engine = Refuses()
if {probe}:
    torch.zeros(1, requires_grad=True).sum().backward()
import harness.execution.preload
assert not torch.cuda.is_initialized()
"""


@pytest.mark.parametrize("probe", [False, True])
def test_the_fork_server_makes_no_backward_pass(probe):
    """Where PyTorch sees a GPU, one starts threads that no fork has. The probe shows it is seen."""
    code = REFUSES.format(probe=probe)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.strip()) == (
        (1, "a backward pass") if probe else (0, "")
    )


def raises(task, rank):
    raise RuntimeError(f"on rank {rank}")


def test_an_error_is_stamped_before_the_group_is_torn_down(tmp_path, monkeypatch):
    """Peers hear of the end of a group, and what they then raise must be later."""
    torn_down = []

    @contextmanager
    def group(*_):
        yield
        torn_down.append(time.monotonic())

    monkeypatch.setattr(parallel, "process_group", group)
    task = Task(Toy(), replace(CELL, parallel="ddp"), Budget(2, 8), tmp_path, world_size=2)
    answer = process._as_rank(raises, task, 1, "")
    assert isinstance(answer, process.Raised)
    assert answer.line == "RuntimeError: on rank 1" and "in raises" in answer.traceback
    assert answer.at <= torn_down[0]


class UnprintableError(Exception):
    def __str__(self):
        raise ValueError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (EOFError("a file of the topic's"), "EOFError: a file of the topic's"),
        (UnprintableError(), "UnprintableError: (cannot be printed)"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
    ],
)
def test_whatever_a_topic_raises_is_an_answer(tmp_path, error, line):
    def function(task, rank):
        raise error

    answer = process._answer(function, Task(Toy(), CELL, Budget(2, 8), tmp_path), 0)
    assert isinstance(answer, process.Raised) and answer.line == line


def test_only_rank_0_sends_its_value(tmp_path):
    task = Task(Toy(), CELL, Budget(2, 8), tmp_path)
    assert process._answer(lambda task, rank: rank, task, 0) == process.Returned(0)
    assert process._answer(lambda task, rank: rank, task, 1) == process.Returned(None)
