"""Count a step's FLOPs; tell what a device can do in a second, by measure and by its maker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, Self

import torch
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from harness.trial.cost import synchronise


class Peak(NamedTuple):
    """The FLOP/s that a GPU's maker gives for dense products, by precision; None: it has none."""

    fp32: float
    tf32: float | None = None
    bf16: float | None = None


# NVIDIA's data sheets, by the names that its driver has for the cards. They give TF32 and BF16 of
# Hopper and Ada with sparsity, which is twice the dense product's. Cards of one chip differ: the
# PCIe and NVL boards have fewer cores or lower clocks than the SXM module.
_A100 = Peak(19.5e12, 156e12, 312e12)
_HOPPER_SXM = Peak(67e12, 494.5e12, 989.5e12)
_HOPPER_NVL = Peak(60e12, 417.5e12, 835.5e12)
MAKERS: Mapping[str, Peak] = {
    "NVIDIA A100-SXM4-40GB": _A100,
    "NVIDIA A100-SXM4-80GB": _A100,
    "NVIDIA A100-PCIE-40GB": _A100,
    "NVIDIA A100 80GB PCIe": _A100,
    "NVIDIA H100 80GB HBM3": _HOPPER_SXM,
    "NVIDIA H100 PCIe": Peak(51e12, 378e12, 756.5e12),
    "NVIDIA H100 NVL": _HOPPER_NVL,
    "NVIDIA H200": _HOPPER_SXM,
    "NVIDIA H200 NVL": _HOPPER_NVL,
    "NVIDIA L4": Peak(30.3e12, 60e12, 121e12),
    "NVIDIA L40S": Peak(91.6e12, 183e12, 362.05e12),
    "Tesla T4": Peak(8.1e12),
}


class _NoModules(ModuleTracker):
    """Knows no modules, so that all that is counted is the whole's.

    The tracker that a ``FlopCounterMode`` has puts hooks on the gradients of modules' inputs;
    autograd refuses them where the gradient of such an input itself is taken, as in a gradient
    penalty (``torch.autograd.grad``).
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def count(step: Callable[[], object]) -> int:
    """Count the floating point operations of a call's matmuls and convolutions, as PyTorch does."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()
    with counter:
        step()
    return counter.get_total_flops()


def measured_peak(
    device: torch.device, size: int = 0, rounds: int = 5, dtype: torch.dtype = torch.float32
) -> float:
    """Measure this device's peak in FLOP/s: the best of ``rounds`` matrix products.

    The matrices have ``size`` rows and columns, by default 1024, and 8192 on a GPU, which smaller
    ones do not fill. One more product goes first, to warm up.
    """
    size = size or (8192 if device.type == "cuda" else 1024)
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(rounds + 1):
        synchronise(device)
        begun = time.perf_counter()
        a @ a
        synchronise(device)
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best


def makers_peak(device: torch.device) -> Peak | None:
    """Return what the maker of a GPU gives as its peak; None for a CPU and an unknown GPU."""
    if device.type != "cuda":
        return None
    return MAKERS.get(torch.cuda.get_device_name(device))
