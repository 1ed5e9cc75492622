"""Measure how much memory a training needs at its peak."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


class PeakMemory:
    """The most memory, in MiB as ``mb``, that was needed while it was watched.

    Of a GPU this process's allocations count, those from before too (a training's parameters), but
    for what earlier trainings left to the garbage collector. Else it is by how much this process's
    resident memory grows beyond what it is when this is made: what imports and earlier cells hold
    does not count. Other systems than Linux only know the peak of the process's whole life.
    """

    def __init__(self, device: torch.device) -> None:
        self.mb = 0.0
        self._device, self._watches = device, False
        gc.collect()
        _trim()
        self._before_mb = 0.0
        if device.type != "cuda" and sys.platform == "linux":
            self._before_mb = _resident_mb("VmRSS")

    def watch(self, on: bool) -> None:
        """Watch from now on, or no longer; what is needed in between does not count."""
        if on and not self._watches:
            self._forget()
        elif self._watches and not on:
            self.mb = max(self.mb, self._peak_mb())
        self._watches = on

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the block."""
        self.watch(True)
        try:
            yield
        finally:
            self.watch(False)

    def _forget(self) -> None:
        """Begin the system's peak anew, without what was freed by now."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        elif sys.platform == "linux":
            _trim()
            with contextlib.suppress(OSError):  # a locked-down /proc: its life's
                Path("/proc/self/clear_refs").write_text("5")

    def _peak_mb(self) -> float:
        """Return the peak since it began anew."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**20
        if sys.platform == "linux":
            return max(0.0, _resident_mb("VmHWM") - self._before_mb)
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _resident_mb(name: str) -> float:
    """Return this process's resident memory in MiB as Linux counts it: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def _trim() -> None:
    """Give what was freed back to the system, where the C library can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
