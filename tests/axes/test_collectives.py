"""The process group that a block of code has, and what is left of it afterwards."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from harness.axes import parallel

SCRIPT = """
import sys
import threading
import weakref

import torch
import torch.distributed as dist

from harness.axes import parallel

left, dropped = threading.Event(), threading.Event()


def hooked():
    '''Leave the group to a hook of gloo's thread; of a sum that has ended this one runs it.'''
    group = dist.new_group() if sys.argv[2] == "own" else dist.group.WORLD
    own, ended = threading.get_ident(), True

    def hook(future):
        nonlocal ended
        ended = threading.get_ident() == own
        if not ended:
            left.wait()
        return [group.size()]

    while ended:
        ended = False
        dist.all_reduce(torch.ones(1), group=group, async_op=True).get_future().then(hook)
    weakref.finalize(hook, dropped.set)


def meet(name):
    return parallel.process_group(0, 1, f"file://{sys.argv[1]}/{name}")


with meet("first"):
    hooked()
left.set()
dropped.wait()
with meet("second"):
    dist.all_reduce(torch.ones(1))
print("fine")
"""


@pytest.mark.parametrize("group", ["world", "own"])
def test_a_hook_of_gloos_own_thread_may_outlive_the_block(tmp_path, group):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), group]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.parametrize(("gpus", "left"), [(2, ["nccl"]), (1, ["gloo", "destroyed"])])
def test_an_error_does_not_wait_for_nccl_s_other_ranks(gpus, left, monkeypatch):
    seen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **_: seen.append(backend))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: seen.append("destroyed"))
    with (
        pytest.raises(ZeroDivisionError),
        parallel.process_group(0, 2, "env://", "cuda"),
    ):
        raise ZeroDivisionError
    assert seen == left
