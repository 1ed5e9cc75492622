"""Scaling study: speed, bytes sent and memory of parallel training against single-process."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.distributed as dist
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from harness.axes import parallel
from harness.cell import Cell
from harness.execution.local import LocalExecutor
from harness.matrix import skip_reason
from harness.runs import Run
from harness.studies.study import keep, own_executor, task_of
from harness.training.loop import Training
from harness.trial import cost
from harness.trial.device import device_of, gpus
from harness.trial.memory import PeakMemory
from harness.trial.task import Task, training_of

WARM_UP = 3
STEPS = 10
ITEM_BYTES = {"float": 4, "c10::BFloat16": 2, "c10::Half": 2, "double": 8, "long int": 8, "int": 4}
SHARE = {  # of a message that each of n ranks sends, by ring algorithms (NVIDIA's nccl-tests)
    "all_reduce": lambda n: 2 * (n - 1) / n,
    "reduce_scatter": lambda n: (n - 1) / n,
    "all_gather": lambda n: float(n - 1),  # the message is the rank's own part
    "broadcast": lambda n: (n - 1) / n,
}


def table(executor: LocalExecutor, task: Task, sizes: Iterable[int]) -> list[dict[str, Any]]:
    """Measure single-process training, and each parallel configuration at each number of ranks.

    Returns a row for each; all have the same global batch. step_ms, samples_per_s, speedup over
    single and efficiency (speedup / ranks); sent_mb, what a rank sends in a step; state_mb, the
    largest rank's parameters, gradients and optimizer state; peak_memory_mb, the largest rank's
    peak in the steps measured. mb are MiB.
    """
    rows = []
    for cell, ranks in _layouts(task, sizes):
        found = executor.call(steps, replace(task, cell=cell, world_size=ranks))
        rows.append({"topic": cell.topic, "model": cell.model, "parallel": cell.parallel} | found)
        rows[-1]["speedup"] = rows[0]["step_ms"] / found["step_ms"]
        rows[-1]["efficiency"] = rows[-1]["speedup"] / found["ranks"]
    return rows


def _layouts(task: Task, sizes: Iterable[int]) -> Iterator[tuple[Cell, int]]:
    """Yield (cell, ranks) to measure: single-process first, then all that can run here."""
    devices = gpus(task.device)
    yield replace(task.cell, parallel="single"), 1
    for name in parallel.CONFIGURATIONS.names[1:]:
        cell = replace(task.cell, parallel=name)
        for ranks in sizes if parallel.is_distributed(name) else (1,):
            reason = skip_reason(task.topic, cell, devices, ranks)
            if reason is None and task.budget.batch_size % parallel.parts(name, ranks) == 0:
                yield cell, ranks


def steps(task: Task, rank: int) -> dict[str, Any]:
    """Measure ten training steps: time and bytes sent on this rank, memory of the largest rank."""
    device = device_of(task, rank)
    training = training_of(task, device, rank)
    for _ in range(WARM_UP):
        training.advance()
    memory = PeakMemory(device)
    with memory.watched():
        _together()
        cost.synchronise(device)
        begun = time.perf_counter()
        for _ in range(STEPS):
            training.advance()
        cost.synchronise(device)
        _together()
        step_s = (time.perf_counter() - begun) / STEPS
    sent = sent_bytes(training) / 2**20 if parallel.is_distributed(task.cell.parallel) else 0.0
    largest = torch.tensor([memory.mb, _held(training) / 2**20], device=device)
    if dist.is_initialized():
        dist.all_reduce(largest, dist.ReduceOp.MAX)
    return {
        "ranks": torch.cuda.device_count() if task.cell.parallel == "dp" else task.world_size,
        "step_ms": 1e3 * step_s,
        "samples_per_s": task.budget.batch_size / step_s,
        "sent_mb": sent,
        "state_mb": largest[1].item(),
        "peak_memory_mb": largest[0].item(),
    }


def sent_bytes(training: Training) -> float:
    """Return the bytes that this rank sends per step, from the collectives torch's profiler sees.

    A mean over as many steps as local SGD needs to its next average.
    """
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        for _ in range(parallel.AVERAGE_EVERY):
            training.advance()
        _together()  # gloo's threads have told the profiler of their last message by then
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        found.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    sent = sum(_sent(event, training.world_size) for event in events)
    return sent / parallel.AVERAGE_EVERY


def _sent(event: Mapping[str, Any], ranks: int) -> float:
    """Return the bytes that a rank sends in one profiled event; 0 if it is no collective."""
    backend, _, name = event.get("name", "").partition(":")
    kind = next((kind for kind in SHARE if kind in name.strip("_")), None)
    if backend not in ("gloo", "nccl") or kind is None:
        return 0.0
    shapes, types = event["args"].get("Input Dims", []), event["args"].get("Input type", [])
    message = sum(
        torch.Size(shape).numel() * ITEM_BYTES.get(kind_of, 0)
        for shape, kind_of in zip(shapes, types, strict=True)
        if all(isinstance(side, int) for side in shape)
    )
    return message * SHARE[kind](ranks)


def _held(training: Training) -> int:
    """Return the bytes of parameters, gradients and optimizer state that this rank holds."""
    tensors: list[Tensor] = []
    for network in training.networks.values():
        for parameter in network.parameters():
            tensors += [parameter] if parameter.grad is None else [parameter, parameter.grad]
    for optimizer in training.optimizers.values():
        local = getattr(optimizer, "optim", optimizer)  # zero1's own part
        for state in local.state.values():
            tensors += [value for value in state.values() if isinstance(value, Tensor)]
    parts = [t.to_local() if parallel.is_sharded_tensor(t) else t for t in tensors]
    return sum(part.numel() * part.element_size() for part in parts)


def _together() -> None:
    """Wait until all ranks are here, if there are several."""
    if dist.is_initialized():
        dist.barrier()


def scaling(run: Run, topic: str, model: str) -> pd.DataFrame:
    """Measure a model's training in each parallel configuration, at 2, 4, ... ranks.

    Up to the run's world size. Returns ``table``'s rows, and writes them to ``scaling.csv``. Raises
    UsageError for an unknown topic or model.
    """
    sizes = [2**k for k in range(1, run.world_size.bit_length()) if 2**k <= run.world_size]
    task = task_of(run, topic, model)
    with own_executor() as executor:
        return keep(run, "scaling", task, table(executor, task, sizes))
