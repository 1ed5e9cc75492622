"""Stack members' parameters as rows, and trace one graph for the gradients of all rows.

Shapes: N members, P parameters of one, B batch.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from harness.training.loop import Training
from harness.training.population.batches import share
from harness.training.topic import Networks, Topic

Leaves = Sequence[Tensor]


class NotStackable(Exception):  # noqa: N818  (what becomes of the cells, not an error of theirs)
    """Raised when cells cannot train as one population; the message says why."""


def differ(first: Training, member: Training) -> str | None:
    """Return why a training cannot be a row beside the first one; None if it can.

    Then it shares the first one's data from now on.
    """
    topic, cell = member.topic, member.cell
    if (cell.model, cell.loss) != (first.cell.model, first.cell.loss):
        return f"{cell.id} has another model or loss than {first.cell.id}"
    if cell.model not in topic.populates:
        return f"{topic.name} does not name {cell.model} among the models that it populates"
    moved = [name for player in member.players for name in player.networks]
    if sorted(moved) != sorted(member.networks):
        return "not each of its networks is moved by just one player"
    if type(topic).each_step is not Topic.each_step:
        return "its networks change between the steps too"
    parameters = _parameters(member)
    if not all(parameter.requires_grad for parameter in parameters):
        return "a part of its networks is frozen"
    if len({*parameters}) < len(parameters):
        return "its networks share parameters"
    if [p.shape for p in parameters] != [p.shape for p in _parameters(first)]:
        return "their parameters have different shapes"
    for name, network in member.networks.items():
        for own, other in zip(network.buffers(), first.networks[name].buffers(), strict=True):
            if not torch.equal(own, other):
                return "their networks hold different buffers"
    return share(first.batches, member.batches)


def _parameters(member: Training) -> list[nn.Parameter]:
    return [p for network in member.networks.values() for p in network.parameters()]


def row(tensors: Sequence[Tensor]) -> Tensor:
    """Flatten tensors into one row, of shape P."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def gradients(
    member: Training, place: int, values_NP: Sequence[Tensor], example: dict[str, Tensor]
) -> torch.fx.GraphModule:
    """Trace a graph (values_NP, batch) -> gradient_NP, losses_N for members like ``member``.

    values_NP: a matrix for each player, in their order; the gradient is of the player at ``place``,
    the others' parameters are as frozen as in its turn. vmap over its objective, traced for batches
    like ``example`` to a graph of plain operations that gives the same numbers without vmap's cost.
    Raises NotStackable if vmap refuses, as it does where a network changes a buffer in place or
    draws from torch's generator; where one puts another buffer in its place; and where the
    objective moves Python's or NumPy's generator or a number that a network keeps, which would be
    constants of the graph.
    """
    networks, objective = member.networks, member.players[place].objective
    of_players = [
        [(name, *named) for name in player.networks for named in networks[name].named_parameters()]
        for player in member.players
    ]
    changed: list[str] = []

    def loss(own: Leaves, others: Sequence[Leaves], batch: dict[str, Tensor]) -> Tensor:
        given: dict[str, dict[str, Tensor]] = {name: {} for name in networks}
        for named, leaves in zip(of_players, [*others[:place], own, *others[place:]], strict=True):
            for (name, key, _), leaf in zip(named, leaves, strict=True):
                given[name][key] = leaf
        called: Any = {name: _Called(net, given[name]) for name, net in networks.items()}
        before = dict(_constants(networks))
        value = objective(called, batch)
        after = dict(_constants(networks))
        changed.extend(name for name, old in before.items() if after.get(name, old) != old)
        return value

    def work(values_NP: Sequence[Tensor], batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        others = []
        for value_NP, named in zip(values_NP, of_players, strict=True):
            shapes = [parameter.shape for *_, parameter in named]
            parts = value_NP.split([shape.numel() for shape in shapes], dim=1)
            others.append(
                [part.unflatten(1, s or (1,)) for part, s in zip(parts, shapes, strict=True)]
            )
        own = others.pop(place)
        found, losses_N = vmap(grad_and_value(loss))(own, others, batch)
        return torch.cat([leaf.flatten(1) for leaf in found], dim=1), losses_N

    for network in networks.values():
        network.train()
    before = _buffers(networks)
    try:
        graph = make_fx(work)([*values_NP], example)
    except Exception as error:  # vmap refuses by many types
        line = (str(error).strip().splitlines() or [""])[0]
        raise NotStackable(f"vmap refuses: {type(error).__name__}: {line[:200]}") from error
    if any(old is not new for old, new in zip(before, _buffers(networks), strict=True)):
        raise NotStackable("its networks put other buffers in place as they are called")
    if changed:
        raise NotStackable(
            f"{changed[0]} changes as the objective is called, and would be a constant of the graph"
        )
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _buffers(networks: Networks) -> list[Tensor]:
    return [buffer for network in networks.values() for buffer in network.buffers()]


def _constants(networks: Networks) -> Iterator[tuple[str, Any]]:
    """Yield, by name, what a trace takes for constant: global generators and networks' numbers."""
    yield "Python's random generator", random.getstate()
    kind, keys, *rest = np.random.get_state()
    yield "NumPy's random generator", (kind, np.asarray(keys).tobytes(), *rest)
    for name, network in networks.items():
        for place, module in network.named_modules(prefix=name):
            for key, value in vars(module).items():
                if isinstance(value, int | float):
                    yield f"{place}.{key}", repr(value)


class _Called:
    """A network that is called with a member's parameters instead of its own."""

    def __init__(self, network: nn.Module, own: dict[str, Tensor]) -> None:
        self.network, self.own = network, own

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return functional_call(self.network, self.own, arguments, named)
