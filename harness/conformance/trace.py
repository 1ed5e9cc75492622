"""What a training does step by step, as digests, so that two can be compared bit for bit.

An event is a kind, whose it is, and digests by name. Events lie in the order of cause and effect:
batch, outputs of layers, loss, gradient, parameters, generators. The first that differs is where
two trainings part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.utils._pytree import tree_leaves

from harness.axes import parallel
from harness.checkpoint import digest
from harness.conformance.finding import line_of
from harness.training.loop import Training
from harness.training.random_state import random_state
from harness.training.topic import Batch, Networks, Player


@dataclass(frozen=True)
class Event:
    """Something that a training did in a step (0: before the first), with digests by name."""

    step: int
    kind: str
    who: str
    digests: Mapping[str, str]


@dataclass(frozen=True)
class Parting:
    """The first difference of two trainings: its step, kind, whose, and the name within."""

    step: int
    kind: str
    who: str
    name: str


def trace(training: Training, until: int) -> list[Event]:
    """Train up to step ``until`` and return all events, from the state before it on."""
    events = [Event(training.step, "state", "", leaves(training.state_dict()))]
    with watched(training, events):
        training.run(until, lambda step: events.extend(_after(training, step)))
    return events


def first_difference(one: list[Event], other: list[Event]) -> Parting | None:
    """Return where two traces part; None if they are equal, bit for bit."""
    for a, b in zip(one, other, strict=False):
        if (a.kind, a.who) != (b.kind, b.who):
            return Parting(a.step, a.kind, a.who, "")
        for name in [*a.digests, *b.digests]:
            if a.digests.get(name) != b.digests.get(name):
                return Parting(a.step, a.kind, a.who, name)
    longer = max(one, other, key=len)
    if len(one) != len(other):
        event = longer[min(len(one), len(other))]
        return Parting(event.step, event.kind, event.who, "")
    return None


def leaves(tree: Any, path: str = "") -> dict[str, str]:
    """Return a digest of each value of a tree, by where it is: ``networks.model.0.weight``.

    What a checkpoint cannot hold is there by its type; a tensor within ``torch.func`` by what it
    wraps, a sparse one dense. History is left out: it only records.
    """
    if isinstance(tree, Mapping):
        items = [(str(key), value) for key, value in tree.items() if path or key != "history"]
    elif isinstance(tree, list | tuple) and any(isinstance(v, Tensor | Mapping) for v in tree):
        items = [(str(index), value) for index, value in enumerate(tree)]
    else:
        try:
            return {path: digest(bare(tree) if isinstance(tree, Tensor) else tree)}
        except TypeError:
            return {path: f"a {type(tree).__name__}"}
    found: dict[str, str] = {}
    for key, value in items:
        found |= leaves(value, f"{path}.{key}" if path else key)
    return found


def bare(tensor: Tensor) -> Tensor:
    """Return a tensor as a dense one, without what ``torch.func`` has wrapped it in."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor.to_dense() if tensor.is_sparse else tensor


def _after(training: Training, step: int) -> Iterator[Event]:
    """Yield what a step has left: networks, learning rates, generators."""
    for name, network in training.networks.items():
        yield Event(step, "parameters", name, leaves(dict(network.state_dict())))
    rates = {
        f"{name}.{n}": float(group["lr"]).hex()
        for name, optimizer in training.optimizers.items()
        for n, group in enumerate(optimizer.param_groups)
    }
    yield Event(step, "rate", "", rates)
    yield Event(step, "random", "", leaves(random_state(training.generator, training.gpus)))


class watched:  # noqa: N801  (a context manager)
    """Appends to ``events`` what objectives, layers and optimizers of a training do in a block."""

    def __init__(self, training: Training, events: list[Event]) -> None:
        self._training, self._events = training, events
        self._inside = False
        self._hooks: list[Any] = []

    def __enter__(self) -> None:
        training = self._training
        self._players = training.players
        training.players = [
            replace(player, objective=self._objective(player)) for player in training.players
        ]
        for who, layer in layers(training.networks):
            self._hooks.append(layer.register_forward_hook(self._output(who)))
        for player in training.players:
            parameters = dict(player.named_parameters(training.networks))
            hook = self._gradient(player.name, parameters)
            self._hooks.append(training.optimizers[player.name].register_step_pre_hook(hook))

    def __exit__(self, *_: object) -> None:
        self._training.players = self._players
        for hook in self._hooks:
            hook.remove()

    def _add(self, kind: str, who: str, digests: Mapping[str, str]) -> None:
        self._events.append(Event(self._training.step + 1, kind, who, digests))

    def _objective(self, player: Player) -> Callable[[Networks, Batch], Tensor]:
        who = f"{player.name} ({line_of(player.objective)})"

        def objective(networks: Networks, batch: Batch) -> Tensor:
            self._add("batch", player.name, leaves(dict(batch)))
            self._inside = True
            try:
                loss = player.objective(networks, batch)
            finally:
                self._inside = False
            self._add("loss", who, leaves(loss))
            return loss

        return objective

    def _output(self, who: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if self._inside:
                tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
                with temporarily_clear_interpreter_stack():
                    self._add("output", who, leaves(tensors))

        return hook

    def _gradient(self, player: str, parameters: dict[str, nn.Parameter]) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
            self._add("gradient", player, leaves(gradients))

        return hook


def layers(networks: Networks) -> Iterator[tuple[str, nn.Module]]:
    """Yield all layers of networks, each with its name as a person finds it."""
    for key, network in networks.items():
        for name, layer in network.named_modules():
            yield layer_name(key, name, layer), layer


def layer_name(network: str, name: str, layer: nn.Module) -> str:
    """Return a layer as a person finds it: ``BatchNorm1d (model.norm)``."""
    return f"{parallel.kind(layer)} ({network}{'.' if name else ''}{name})"
