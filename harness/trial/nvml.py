"""What NVML, NVIDIA's management library, tells of GPUs: the energy they use, and their driver."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from types import ModuleType

import torch


def _library() -> ModuleType | None:
    """Return ``pynvml`` (the package nvidia-ml-py), begun; None without it or without a driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def driver() -> str | None:
    """Return the version of NVIDIA's driver, such as ``580.159.04``; None if NVML is not there."""
    library = _library()
    if library is None:
        return None
    try:
        return str(library.nvmlSystemGetDriverVersion())
    except library.NVMLError:
        return None


def energy_counter(gpus: Iterable[torch.device]) -> Callable[[], float]:
    """Return a function that reads the joules that GPUs have used since their driver was loaded.

    They are found by their UUIDs, since NVML counts all of a machine's GPUs whatever
    CUDA_VISIBLE_DEVICES says. It reads NaN where there are none, without NVML, and where one of
    them has no counter (older than Volta) or is a part of a GPU (MIG), of which NVML tells none.
    """
    wanted, library = list(gpus), _library()
    if not wanted or library is None:
        return _unknown
    try:
        uuids = [f"GPU-{torch.cuda.get_device_properties(gpu).uuid}" for gpu in wanted]
        handles = [library.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
    except library.NVMLError:
        return _unknown

    def read() -> float:
        try:
            used_mj = [library.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles]
        except library.NVMLError:
            return math.nan
        return sum(used_mj) / 1e3

    return read


def _unknown() -> float:
    return math.nan
