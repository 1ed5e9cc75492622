"""What NVML tells of a GPU, by a library that stands for it."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch
from fake_nvml import FakeNVML

from harness.trial import cost, nvml

GPUS = [torch.device("cuda", 0), torch.device("cuda", 1)]


@pytest.fixture
def fake_nvml(monkeypatch):
    fake = FakeNVML()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


@pytest.fixture
def seen(monkeypatch):
    """Two GPUs that PyTorch sees, by their UUIDs: in NVML's own order they are 3 and 1."""
    uuids = {0: "c", 1: "a"}
    about = lambda gpu: SimpleNamespace(uuid=uuids[gpu.index])  # noqa: E731
    monkeypatch.setattr(torch.cuda, "get_device_properties", about)


def test_energy_is_that_of_the_gpus_asked_for_in_joules(fake_nvml, seen):
    fake_nvml.used_mj.update({"GPU-a": 5_000, "GPU-b": 70_000, "GPU-c": 900_000})
    assert nvml.energy_counter(GPUS[:1])() == 900.0
    assert nvml.energy_counter(GPUS)() == 905.0


@pytest.mark.parametrize("why", ["no library", "no driver", "no counter", "a part of a GPU"])
def test_energy_is_not_a_number_where_nothing_counts_it(why, fake_nvml, seen, monkeypatch):
    fake_nvml.used_mj["GPU-c"] = 1_000
    if why == "no library":
        monkeypatch.setitem(sys.modules, "pynvml", None)
    elif why == "no driver":
        fake_nvml.lacks.add("nvmlInit")
    elif why == "no counter":
        fake_nvml.lacks.add("nvmlDeviceGetTotalEnergyConsumption")
    else:
        fake_nvml.used_mj["MIG-c"] = fake_nvml.used_mj.pop("GPU-c")
    assert math.isnan(nvml.energy_counter(GPUS[:1])())


def test_no_gpus_use_no_energy_that_is_known(fake_nvml):
    assert math.isnan(nvml.energy_counter([])())


@pytest.mark.parametrize("lacking", [{"nvmlInit"}, {"nvmlSystemGetDriverVersion"}])
def test_the_driver_is_told_where_nvml_is(lacking, fake_nvml):
    assert nvml.driver() == "580.1"
    fake_nvml.lacks |= lacking
    assert nvml.driver() is None


def test_an_environment_has_the_driver_of_a_gpu_and_numbers_do_not_depend_on_it(
    fake_nvml, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")
    assert cost.environment("cuda")["driver"] == "580.1" and "driver" not in cost.DECIDING
    assert "driver" not in cost.environment("cpu")
    fake_nvml.lacks.add("nvmlInit")
    assert "driver" not in cost.environment("cuda")
