"""Measure what a training costs: seconds, throughput, memory; and tell what it ran on."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import Any

import torch
from joblib import cpu_count
from torch import nn

from harness.training.loop import Training
from harness.trial import nvml
from harness.trial.memory import PeakMemory

CPU = torch.device("cpu")
COMPUTING = ("torchvision", "numpy", "scipy", "scikit-learn", "gymnasium", "torch-fidelity")
PASSES = 40  # of the convolution by which a core's speed is told
PASS_S = 1.45e-3  # what one takes on the core whose seconds the budgets expect
FIRST_STEPS = 3  # in which libraries start and networks are compiled
LAUNCH_S = 4e-3  # what a small network's step takes on a GPU, where launching it is all its time
TRAINING = ("train_s", "first_steps_s")  # what a training's seconds are counted as
GPU_LIBRARIES = ("cuda", "cudnn")
# of an environment, what decides a cell's numbers
DECIDING = (
    *("torch", *(name.replace("-", "_") for name in COMPUTING), "device", "cpu", "threads"),
    *GPU_LIBRARIES,
)


class Clock:
    """A stopwatch that adds up a trial's seconds and joules by what they went for (``train_s``).

    device: it is waited for where a block begins and ends, so that each has what was queued in it.
    counter: reads the joules used so far, as ``nvml.energy_counter`` does; NaN: they are not known.
    memory: where it is set, watched while seconds are counted as a training's.
    """

    def __init__(
        self, device: torch.device = CPU, counter: Callable[[], float] = lambda: math.nan
    ) -> None:
        self.seconds: dict[str, float] = {}
        self.joules: dict[str, float] = {}
        self._device, self._counter = device, counter
        self.memory: PeakMemory | None = None
        self._begun = time.perf_counter()
        self._name = ""
        self._inside = 0.0, 0.0

    def elapsed(self) -> float:
        """Return the seconds since the clock was made."""
        return time.perf_counter() - self._begun

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the block's time and energy to ``name``, without those of measured blocks inside."""
        (outside_s, outside_j), self._inside = self._inside, (0.0, 0.0)
        begun_s, begun_j = self._read()
        outside = self._name
        self._count_as(name)
        try:
            yield
        finally:
            self._count_as(outside)
            ended_s, ended_j = self._read()
            spent_s, spent_j = ended_s - begun_s, ended_j - begun_j
            inside_s, inside_j = self._inside
            self.seconds[name] = self.seconds.get(name, 0.0) + spent_s - inside_s
            self.joules[name] = self.joules.get(name, 0.0) + spent_j - inside_j
            self._inside = outside_s + spent_s, outside_j + spent_j

    def _count_as(self, name: str) -> None:
        """Count what comes as ``name``."""
        self._name = name
        if self.memory:
            self.memory.watch(name in TRAINING)

    def include(self, part: str, whole: str) -> None:
        """Count what was measured as ``part`` in ``whole`` too."""
        for spent in (self.seconds, self.joules):
            spent[whole] += spent[part]

    def _read(self) -> tuple[float, float]:
        synchronise(self._device)
        return time.perf_counter(), self._counter()


def times(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return a record's wall_s, train_s, eval_s and audit_s; 0 where nothing was measured."""
    return {name: seconds.get(name, 0.0) for name in ("wall_s", "train_s", "eval_s", "audit_s")}


def of_training(
    training: Training,
    seconds: Mapping[str, float],
    peak_memory_mb: float,
    energy_j: float = math.nan,
    begun: int = 0,
    first: int = 0,
) -> dict[str, float]:
    """Return a record's ``cost``: seconds, time per step, throughput, memory, parameters, energy.

    seconds: as ``Clock`` has them, train_s among them; wall_s, eval_s and audit_s are 0 if absent.
    energy_j: joules that were used in train_s; not in the cost if they are not known, or if the
    counter has not moved. begun: the step that the training came to by a checkpoint. first: how
    many steps after that took the first_steps_s of train_s; the time per step and the throughput
    are those of the others, if there are any.
    """
    made, first_s = training.step - begun, seconds.get("first_steps_s", 0.0)
    apart = made > first > 0
    steps = max(1, made - first if apart else made)
    steady_s = seconds["train_s"] - (first_s if apart else 0.0)
    return {
        **times(seconds),
        **({"first_steps_s": first_s} if apart else {}),
        "step_ms": 1e3 * steady_s / steps,
        "samples_per_s": training.budget.batch_size * steps / steady_s,
        "peak_memory_mb": peak_memory_mb,
        "parameters": float(parameters(training.networks)),
        **({"energy_j": energy_j} if energy_j > 0 else {}),
    }


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all work that was queued on it; a CPU has no queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def parameters(networks: Mapping[str, nn.Module]) -> int:
    """Count the parameters of all networks."""
    return sum(p.numel() for network in networks.values() for p in network.parameters())


@cache
def slowness() -> float:
    """Return how many times as long a training takes here as on the core of the budgets' seconds.

    Measured once, by the quickest of some passes of a small convolution on one thread; this
    process's own time counts, so that others do not. About a third of a second.
    """
    before, generator = torch.get_num_threads(), torch.Generator().manual_seed(0)
    x_BCHW = torch.randn(32, 32, 16, 16, generator=generator)
    weight = torch.randn(32, 32, 3, 3, generator=generator, requires_grad=True)
    passes = []
    torch.set_num_threads(1)
    try:
        for _ in range(PASSES):
            begun = time.process_time()
            nn.functional.conv2d(x_BCHW, weight, padding=1).relu().mean().backward()
            passes.append(time.process_time() - begun)
    finally:
        torch.set_num_threads(before)
    return min(passes) / PASS_S


def cores() -> int:
    """Return how many cores this process may use: by its affinity and container, at least 1."""
    return cpu_count()


def environment(device: str) -> dict[str, Any]:
    """Return versions, device and machine: what a figure depends on besides its cell."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name.replace("-", "_"): version(name) for name in COMPUTING},
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        **(_gpu_software() if device == "cuda" else {}),
        "cpu": _cpu_name(),
        "cores": cores(),
        "threads": 1,
        "platform": platform.platform(),
    }


def _gpu_software() -> dict[str, Any]:
    """Return the versions of what computes on a GPU, as PyTorch has them, and of its driver."""
    versions = torch.version.cuda, torch.backends.cudnn.version()
    driver = nvml.driver()
    return dict(zip(GPU_LIBRARIES, versions, strict=True)) | ({"driver": driver} if driver else {})


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
