"""Which device a trial has, and what is promised there."""

import os
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
import torch

from harness.cell import Cell, UsageError
from harness.trial import device
from harness.trial.task import Task

CELL = Cell("toy", "line", "mse", "cosine", "ddp")


def settings():
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
        torch.utils.deterministic.fill_uninitialized_memory,
    )


def test_a_gpu_repeats_itself_in_full_float32_for_the_block_alone():
    before = settings()
    with pytest.raises(KeyError), device.repeatable("cuda"):
        assert settings() == (True, False, False, False, False)
        raise KeyError
    assert settings() == before
    with device.repeatable("cpu"):
        assert settings() == before


OTHERWISE = {
    "the environment": "import os; os.environ['TORCH_ALLOW_TF32_CUBLAS_OVERRIDE'] = '1'",
    "the older way": "import torch; torch.set_float32_matmul_precision('high')",
    "the newer way": "import torch; torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "the newest way": "import torch; torch.backends.fp32_precision = 'tf32'",
}
MULTIPLIES = """
import torch
from harness.axes import precision
from harness.trial import device
torch.backends.cudnn.benchmark = True
def now():
    return *precision.reduced()[:2], torch.backends.cudnn.benchmark
before = now()
with device.repeatable("cuda"):
    inside, older = now(), torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
    with precision.step("tf32", torch.device("cpu")):
        step = now()
    again = now()
print(before, inside, older, step, again, now(), sep="\\n")
"""


@pytest.mark.parametrize("way", OTHERWISE)
def test_full_float32_is_that_whatever_said_otherwise(way):
    code = OTHERWISE[way] + MULTIPLIES
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    before, inside, older, step, again, after = done.stdout.splitlines()
    assert before == after == "('tf32', 'tf32', True)", done.stderr
    assert inside == again == "('', '', False)" and older == "False"
    assert step == "('tf32', 'tf32', False)"


def test_what_cannot_repeat_itself_is_named_once_and_other_warnings_stay():
    text = "adaptive_max_pool2d does not have a deterministic implementation, but you set"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with device.unrepeatable() as found:
            warnings.warn(text, stacklevel=1)
            warnings.warn(f"somewhere: {text}", stacklevel=1)
            warnings.warn("something else", stacklevel=1)
        warnings.warn(text, stacklevel=1)
    assert found == ["adaptive_max_pool2d"]
    assert [str(one.message) for one in seen] == ["something else", text]


def test_torch_warns_in_the_words_that_are_looked_for():
    with device.repeatable("cuda"), device.unrepeatable() as found:
        torch.ones(2).put_(torch.tensor([0]), torch.ones(1))
    assert found == ["put_"]


def test_ranks_have_the_gpus_that_their_task_was_given(tmp_path, monkeypatch):
    current = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    task = Task(None, CELL, None, tmp_path, "cuda", 2, gpus=(5, 3))
    assert [device.device_of(task, rank).index for rank in (0, 1)] == [5, 3]
    shared = Task(None, CELL, None, tmp_path, "cuda", 2, gpus=(5,))
    assert [device.device_of(shared, rank).index for rank in (0, 1)] == [5, 5]
    unsaid = Task(None, CELL, None, tmp_path, "cuda", 2)
    assert [device.device_of(unsaid, rank).index for rank in (0, 1)] == [0, 1]
    assert [one.index for one in current] == [5, 3, 5, 5, 0, 1]


def test_a_device_is_one_that_is_there(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # so that it is undone
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.choose(None) == "cpu"
    with pytest.raises(UsageError, match="device cuda: PyTorch sees no GPU here; choose cpu"):
        device.choose("cuda")
    with pytest.raises(UsageError, match=r"unknown device 'gpu': choose from"):
        device.choose("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda gpu: f"kind {gpu}")
    with pytest.raises(UsageError, match=r"of different kinds \(0: kind 0, 1: kind 1\): name"):
        device.choose(None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda gpu: "kind")
    assert device.choose(None) == device.choose("cuda") == "cuda"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert device.choose("cpu") == "cpu" and os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("told", "own"),
    [
        ({"gpus": (3, 1), "world_size": 2}, [1, 3]),
        ({"gpus": (2,), "world_size": 4}, [2]),  # ranks of one training that share it
        ({"gpus": (0, 1), "world_size": 2, "per_gpu": 2}, []),
        ({"world_size": 2}, []),  # torchrun's or Ray's: some may be on other machines
        ({}, [0]),
        ({"device": "cpu"}, []),
    ],
    ids=str,
)
def test_a_training_s_own_gpus_are_those_of_all_its_ranks(told, own, tmp_path):
    task = Task(None, CELL, None, tmp_path, **{"device": "cuda"} | told)
    assert [gpu.index for gpu in device.own_gpus(task)] == own


def test_dp_has_all_gpus(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    task = Task(None, replace(CELL, parallel="dp"), None, tmp_path, device="cuda")
    assert [gpu.index for gpu in device.own_gpus(task)] == [0, 1, 2]
