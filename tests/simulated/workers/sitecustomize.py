"""Have each process of a command simulate GPUs, workers too: Python imports this as it starts."""

import os
import sys

import gpu
import torch
import torch.distributed as dist


def simulate():
    """Have the GPUs that this process sees until it ends, if it sees any."""
    if torch._C._cuda_getDeviceCount():
        KEPT.append(gpu.device())
        KEPT[-1].__enter__()
        begin = dist.init_process_group
        dist.init_process_group = lambda backend, *rest, **told: begin("gloo", *rest, **told)


def in_worker():
    """Have a worker simulate its GPUs once it is told which they are."""
    from harness.execution import process
    from harness.trial import device

    main = process.main

    def simulated(pipe, stacks, heart, gpus):
        device.show(gpus)
        simulate()
        main(pipe, stacks, heart, gpus)

    process.main = simulated


KEPT: list = []
command = " ".join(sys.orig_argv)
if "multiprocessing.forkserver" in command:
    os.register_at_fork(after_in_child=in_worker)
elif "multiprocessing" not in command:
    simulate()
