"""A library that stands for pynvml, NVIDIA's management library."""

from __future__ import annotations

from collections import Counter
from types import ModuleType


class NVMLError(Exception):
    """Raised where the library has no answer."""


class FakeNVML(ModuleType):
    """used_mj: the energy of GPUs by UUID, of which it knows no others; lacks: what it refuses."""

    NVMLError = NVMLError

    def __init__(self):
        super().__init__("pynvml")
        self.used_mj: Counter[str] = Counter()
        self.lacks: set[str] = set()

    def _check(self, name):
        if name in self.lacks:
            raise NVMLError(name)

    def nvmlInit(self):  # noqa: N802  (NVML's names)
        self._check("nvmlInit")

    def nvmlSystemGetDriverVersion(self):  # noqa: N802
        self._check("nvmlSystemGetDriverVersion")
        return "580.1"

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        if uuid not in self.used_mj:
            raise NVMLError("not found")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        self._check("nvmlDeviceGetTotalEnergyConsumption")
        return self.used_mj[handle]
