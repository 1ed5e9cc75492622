"""Run ``tests/simulated`` in a Python that a stub of the CUDA driver is loaded into."""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent / "simulated"
CHECKS = ("state", "resume", "metrics")
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def _driver():
    """Whether this machine has a driver of its own, which the stub would lie over."""
    try:
        return bool(ctypes.CDLL("libcuda.so.1"))
    except OSError:
        return False


pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the stub is loaded as Linux does it"),
    pytest.mark.skipif(torch.version.cuda is None, reason="this build of torch knows no CUDA"),
    pytest.mark.skipif(_driver(), reason="there is a driver, and may be a GPU: none to simulate"),
    pytest.mark.skipif(COMPILER is None, reason="no C compiler"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run Python under the stub, with one GPU or several."""
    folder = tmp_path_factory.mktemp("driver")
    library, source = folder / "libcuda.so.1", FOLDER / "driver.c"
    assert COMPILER
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)

    def call(*arguments, gpus=1, **more):
        told = {
            "LD_PRELOAD": str(library),
            "LD_LIBRARY_PATH": str(folder),
            "OMP_NUM_THREADS": "1",
            "SIMULATED_GPUS": str(gpus),
        }
        hidden = ("PYTEST", "CUDA_VISIBLE_DEVICES")  # the latter by a test of --device cpu
        own = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        done = subprocess.run(
            [sys.executable, *arguments],
            env=own | told | more,
            cwd=FOLDER.parents[1],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{done.stdout[-5000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    return call


NAMES = {path.name for path in FOLDER.glob("test_*.py")}
ALONE = {"test_topics.py": 1, "test_dp.py": 2}  # in a process of their own, with so many GPUs


@pytest.mark.parametrize(
    ("names", "gpus"),
    [(sorted(NAMES - ALONE.keys()), 1), *(([name], gpus) for name, gpus in ALONE.items())],
    ids=["the others", *ALONE],
)
def test_on_a_simulated_gpu(names, gpus, run):
    files = [str(FOLDER / name) for name in names]
    out = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *files, gpus=gpus)
    assert " passed" in out and "skipped" not in out and "failed" not in out


def test_a_command_trains_on_two_simulated_gpus_in_its_workers(run, tmp_path):
    path = os.pathsep.join(map(str, (FOLDER / "workers", FOLDER, FOLDER.parents[1])))
    asked = ("run", "--profile", "smoke", "--device", "cuda", "--run-dir", str(tmp_path))
    chosen = ("--model", "vgg11,mlp,dqn", "--loss", "ce", "--parallel", "single,ddp,local_sgd")
    chosen += ("-k", "single or ddp or local_sgd")
    out = run("-m", "harness", *asked, *chosen, gpus=2, PYTHONPATH=path)
    records = [json.loads(file.read_text()) for file in (tmp_path / "cells").glob("*.json")]
    found = {record["id"]: record for record in records if record["status"] != "skipped"}
    assert {record["status"] for record in found.values()} == {"done"}, out
    assert {record["environment"]["device"] for record in found.values()} == {"Simulated GPU"}
    whole = [record["checkpoint"][f"{name}_equal"] for record in found.values() for name in CHECKS]
    assert all(whole) and len(whole) == 3 * len(found)
    ranks = [record for record in found.values() if record["world_size"] == 2]
    assert {record["parallel"] for record in ranks} == {"ddp", "local_sgd"}
    assert all(record["parity"]["equal"] for record in ranks if record["parity"]["exact"])
