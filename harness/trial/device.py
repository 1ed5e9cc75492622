"""The device that a rank of a task computes on, and what its arithmetic promises there."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from harness.axes import precision
from harness.cell import UsageError, unknown
from harness.trial.task import Task

DEVICES = ("cpu", "cuda")
VISIBLE = "CUDA_VISIBLE_DEVICES"
UNREPEATABLE = " does not have a deterministic implementation"  # after an operator's name


def choose(name: str | None) -> str:
    """Return the device that was asked for; a GPU where PyTorch sees one if nothing was.

    cpu hides the GPUs from this process and those that it starts: parts of PyTorch (PowerSGD,
    sharded checkpoints) use one that they see, wherever the training is. Raises UsageError for an
    unknown device, for a GPU that is not there, and for GPUs of different kinds, whose times and
    rounding would pass for those of one.
    """
    if name not in (None, *DEVICES):
        raise unknown("device", str(name), DEVICES)
    if name == "cpu":
        os.environ[VISIBLE] = ""
        return "cpu"
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UsageError("device cuda: PyTorch sees no GPU here; choose cpu")
    kinds = [torch.cuda.get_device_name(gpu) for gpu in range(torch.cuda.device_count())]
    if len({*kinds}) > 1:
        listed = ", ".join(f"{gpu}: {kind}" for gpu, kind in enumerate(kinds))
        raise UsageError(
            f"the GPUs here are of different kinds ({listed}): name those of one in {VISIBLE}, or "
            "choose --device cpu"
        )
    return "cuda" if there else "cpu"


def beside(name: str | None, executor: str) -> bool:
    """Return whether what a GPU makes slower is trained on the CPU beside it.

    It is where no device was asked for and trainings are started here: torchrun and Ray give each
    rank a GPU.
    """
    return not name and executor == "local"


@contextmanager
def visible(gpus: str | None) -> Iterator[None]:
    """Have processes that start in the block see these GPUs, as CUDA_VISIBLE_DEVICES names them.

    Empty: none; None: all. Afterwards the variable is what it was.
    """
    before = os.environ.get(VISIBLE)
    show(gpus)
    try:
        yield
    finally:
        show(before)


def show(gpus: str | None) -> None:
    """Have this process see these GPUs, as ``visible`` does for a block; before it uses any."""
    if gpus is None:
        os.environ.pop(VISIBLE, None)
    else:
        os.environ[VISIBLE] = gpus


def gpus(device: str) -> int:
    """Return how many GPUs trainings on this device can have: none on the CPU."""
    return torch.cuda.device_count() if device == "cuda" else 0


def device_of(task: Task, rank: int) -> torch.device:
    """Return a rank's device; a GPU is made the current one too."""
    if task.device != "cuda":
        return torch.device(task.device)
    theirs = task.gpus or range(torch.cuda.device_count())
    device = torch.device("cuda", theirs[rank % len(theirs)])
    torch.cuda.set_device(device)
    return device


def own_gpus(task: Task) -> list[torch.device]:
    """Return the GPUs that a task's ranks compute on, and no other training beside them.

    Empty on the CPU, where trainings share a GPU, and where the ranks are started by torchrun or
    Ray, so that some may be on other machines.
    """
    if task.device != "cuda" or task.per_gpu > 1:
        return []
    if task.gpus:
        indices = sorted({*task.gpus})
    elif task.cell.parallel == "dp":
        indices = [*range(torch.cuda.device_count())]
    else:
        indices = [0] if task.world_size == 1 else []
    return [torch.device("cuda", index) for index in indices]


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """Have a GPU compute the same bits each time for the block, and in full float32.

    Without it cuDNN adds up a convolution's gradient in any order, or by the way that was fastest
    when it was tried, and multiplies in TF32, of 10 bits; products do where the environment or an
    imported module says so. An operator that has no such form warns, as ``unrepeatable`` notes. A
    CPU needs nothing.
    """
    if device != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    deterministic: Any = torch.utils.deterministic
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.benchmark
    filled = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    deterministic.fill_uninitialized_memory = False  # a kernel more for each tensor
    cudnn.benchmark = False
    try:
        with precision.multiplying(tf32=False):
            yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.benchmark = before[1]
        deterministic.fill_uninitialized_memory = filled


@contextmanager
def unrepeatable() -> Iterator[list[str]]:
    """Collect for the block the operators that have no repeatable form on the GPU, by name."""
    found: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning
        warnings.filterwarnings("always", f".*{UNREPEATABLE}")

        def note(message: Warning | str, *rest: Any, **named: Any) -> None:
            name, matched, _ = str(message).partition(UNREPEATABLE)
            if not matched:
                show(message, *rest, **named)
            elif (name := name.split()[-1]) not in found:
                found.append(name)

        warnings.showwarning = note
        yield found
