"""A worker process: what it is forked from, and how it answers."""

import subprocess
import sys
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


def test_an_error_is_told_before_the_group_is_left(tmp_path, monkeypatch):
    """Gloo's peers then fail too, and nccl waits for them."""
    happened = []

    @contextmanager
    def group(*_):
        yield
        happened.append("left")

    monkeypatch.setattr(parallel, "process_group", group)
    task = Task(Toy(), replace(CELL, parallel="ddp"), Budget(2, 8), tmp_path, world_size=2)
    assert process._as_rank(raises, task, 1, "", happened.append) is None
    answer, left = happened
    assert isinstance(answer, process.Raised) and left == "left"
    assert answer.line == "RuntimeError: on rank 1" and "in raises" in answer.traceback


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

    told = []
    task = Task(Toy(), CELL, Budget(2, 8), tmp_path)
    assert process._answer(function, task, 0, told.append) is None
    (answer,) = told
    assert isinstance(answer, process.Raised) and answer.line == line


def test_only_rank_0_sends_its_value(tmp_path):
    task = Task(Toy(), CELL, Budget(2, 8), tmp_path)
    told = []
    found = [process._answer(lambda task, rank: rank, task, rank, told.append) for rank in (0, 1)]
    assert found == [process.Returned(0), process.Returned(None)] and not told
