"""Settings and fixtures shared by the tests."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import settings

from harness.execution.local import LocalExecutor

pytest_plugins = ["pytester"]
collect_ignore = []
if "SIMULATED_GPUS" not in os.environ:
    collect_ignore = ["simulated"]  # test_simulated_gpu.py runs these, in a Python of its own
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the others are the same on every machine

# files that take minutes begin first, so that none is waited for in the end
LONG = (
    *("test_simulated_gpu", "test_plugin", "test_run_script", "test_screen", "test_open_axes"),
    *("test_cluster", "test_set_project", "test_reliability", "test_course", "test_guest"),
)

torch.set_num_threads(1)  # as in a worker process; more would wait for those of other workers

settings.register_profile("decathlon", deadline=None, max_examples=50)  # no timing asserts
settings.load_profile("decathlon")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(autouse=True)
def own_modules(tmp_path_factory):
    """What a test imported from its own folder is gone after it: many call theirs ``mine``."""
    before = set(sys.modules)
    yield
    folder = str(tmp_path_factory.getbasetemp())
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(folder):
            del sys.modules[name]


@pytest.fixture(scope="module")
def executor():
    """One for all tests of a module: its ranks are warm."""
    made = LocalExecutor(cores=4)
    yield made
    made.close()


@pytest.fixture(scope="session")
def short_folder():
    """Make a temporary folder of a short path, for what has sockets in it; removed in the end."""
    with ExitStack() as stack:
        yield lambda: Path(stack.enter_context(TemporaryDirectory(ignore_cleanup_errors=True)))
