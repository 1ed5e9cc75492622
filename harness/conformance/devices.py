"""Does the training work on a GPU: do networks, batches and what they make lie on one device?

Without a GPU a fake one tells: its tensors have no numbers, but an operator that meets tensors of
two devices raises as it does on CUDA.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._pytree import tree_leaves

from harness import checkpoint
from harness.cell import some_of
from harness.conformance.fake_gpu import fake_gpu, is_mixed, lacks
from harness.conformance.finding import Finding, crashed, does_not_apply, fails, holds
from harness.conformance.outside import changed
from harness.conformance.subject import STEPS, Subject
from harness.conformance.trace import leaves
from harness.studies.study import own_executor
from harness.training.loop import Training
from harness.training.topic import Topic
from harness.trial.device import device_of, unrepeatable, visible
from harness.trial.task import Task, training_of

MORE = 2  # steps after a checkpoint is loaded
OBJECTIVE = "objective"
MEASURING = ("evaluate", "validate")
TODO = "make it where its input is: torch.zeros(..., device=x.device), or register_buffer it"
MEASURE = "move the data to the networks: x.to(next(network.parameters()).device)"
COMES_BACK = "let state_dict hold what is kept on the GPU too; see state and resume above"
DRAW = "draw on the CPU, by the generator that is given, and move that: torch.randn(...).to(device)"


def devices(subject: Subject) -> Finding:
    """Train on a GPU if there is one, else with fake tensors, and name the line that mixes devices.

    GPUs are hidden from the processes of checks, which are on the CPU: a fresh one sees them.
    """
    with visible(subject.gpus):
        if torch.cuda.device_count():
            with own_executor(fresh=True) as other:
                on_gpu: Finding = other.call(_on_gpu, replace(subject.task, device="cuda"))
                return on_gpu
    faked: Finding = subject.call_afresh(_faked)
    return faked


def _on_gpu(task: Task, rank: int) -> Finding:
    """Train, evaluate and save on a GPU; then load, and train on beside what was not saved."""
    device, path = device_of(task, rank), task.run / "devices.pt"
    name = torch.cuda.get_device_name()
    with unrepeatable() as operators:
        training = training_of(task, device, rank)
        training.run(STEPS - MORE)
        training.evaluate()
        training.validate()
        checkpoint.save(path, training.state_dict())
        again = training_of(task, device, rank)
        again.load_state_dict(checkpoint.load(path))
        if unlike := _unlike(training, again):
            return fails(f"on {name}, {unlike} after loading", COMES_BACK)
        for one in (training, again):
            one.run(STEPS)
    comes = f"it trains, evaluates and comes back on {name}"
    if operators:
        return holds(f"{comes}; {', '.join(operators)} cannot be repeated bit for bit there")
    if unlike := _unlike(training, again):
        return fails(f"on {name}, {unlike} {MORE} steps after loading", COMES_BACK)
    return holds(f"{comes}, {MORE} steps later too, bit for bit")


def _unlike(one: Training, other: Training) -> str:
    """Say what differs in two trainings' states; empty if all is equal, bit for bit."""
    names = changed(leaves(one.state_dict()), leaves(other.state_dict()))
    return f"{some_of(names)} {'differs' if len(names) == 1 else 'differ'}" if names else ""


def _faked(task: Task, rank: int) -> Finding:
    """Call objectives, batches and evaluation with networks and batches on a fake GPU.

    What needs numbers (a branch on a value, NumPy), a backward pass or an operator of unknown
    shapes ends that part: there are none.
    """
    training = training_of(task, torch.device("cpu"), rank)
    batch = training.batches.draw(task.budget.batch_size)
    parts = _parts(task, training, batch)
    seen: list[str] = []
    begun: dict[str, str] = {}  # by part what it needs and the GPU lacks
    needed: dict[str, str] = {}
    called = _Called()
    with fake_gpu() as gpu, called:
        for network in training.networks.values():
            network.to(gpu)
        for name in batch:
            batch[name] = batch[name].to(gpu)
        for name, part in parts.items():
            called.clear()
            for network in training.networks.values():
                network.train(name not in MEASURING)
            try:
                value = part()
            except Exception as error:
                if is_mixed(error):
                    return _mixed(name, error, task)
                (begun if called.any else needed)[name] = lacks(error)
                continue
            seen.append(name)
            if name == "batches" and (left := _elsewhere(value)):
                return fails(
                    f"batches gives {left} on the CPU", "move it to the device it is given"
                )
    for name in needed:
        if name.startswith(OBJECTIVE):
            return does_not_apply(
                f"there is no GPU here, and the simulated one has no {needed[name]}, which {name} "
                "needs"
            )
    told = [*seen, *(f"{name} up to where it needs {begun[name]}" for name in begun)]
    more = f"; {', '.join(needed)} cannot be told" if needed else ""
    return holds(f"on a simulated GPU one device is kept in {', '.join(told)}{more}")


Part = Callable[[], Any]


def _parts(task: Task, training: Training, batch: dict[str, Tensor]) -> dict[str, Part]:
    """Return by name what is called: objectives, a new stream of batches, and what measures."""
    topic, networks = task.topic, training.networks

    def stream() -> Any:
        generator, gpu = torch.Generator().manual_seed(0), torch.device("cuda", 0)
        made = topic.batches(task.cell, task.budget, networks, generator, gpu)
        return made.draw(task.budget.batch_size)

    parts: dict[str, Part] = {
        f"{OBJECTIVE} of {player.name}": partial(player.objective, networks, batch)
        for player in training.players
    }
    parts["batches"] = stream
    own = [name for name in MEASURING if getattr(type(topic), name) is not getattr(Topic, name)]
    return parts | {name: partial(getattr(topic, name), networks, task.cell) for name in own}


class _Called:
    """Notes for a block whether a layer has made a forward pass."""

    def __enter__(self) -> None:
        self.any = False
        self._hook = register_module_forward_hook(self._note)

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def clear(self) -> None:
        """Forget what was called."""
        self.any = False

    def _note(self, *_: Any) -> None:
        self.any = True


def _mixed(name: str, error: Exception, task: Task) -> Finding:
    """Return the finding of mixed devices, with the line of the topic's code."""
    told = crashed("".join(traceback.format_exception(error)), task.topic)
    where = told.text.rpartition(" (")[2].removesuffix(")") if told.text.endswith(")") else ""
    todo = MEASURE if name in MEASURING else DRAW if "generator" in told.text else TODO
    return fails(f"{name} mixes the CPU and the GPU{f' at {where}' if where else ''}", todo)


def _elsewhere(batch: Any) -> str:
    """Return the names of a batch's tensors that are not on the GPU; empty if all are."""
    items = batch.items() if isinstance(batch, dict) else []
    return ", ".join(
        name
        for name, value in items
        if any(isinstance(t, Tensor) and t.device.type != "cuda" for t in tree_leaves(value))
    )
