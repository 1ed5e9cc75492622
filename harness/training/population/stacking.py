"""Stack members' parameters as rows, and trace one graph for the gradients of all rows.

Shapes: N members, P parameters of one, B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from harness.training.loop import Training
from harness.training.population.batches import share
from harness.training.topic import Topic


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
    if [set(player.networks) for player in member.players] != [set(member.networks)]:
        return "it has not just one player that moves all its networks"
    if member.players[0].turns > 1:
        return "its player takes several turns at every step"
    if type(topic).each_step is not Topic.each_step:
        return "its networks change between the steps too"
    if not all(parameter.requires_grad for parameter in values(member)):
        return "a part of its networks is frozen"
    if [p.shape for p in values(member)] != [p.shape for p in values(first)]:
        return "their parameters have different shapes"
    for name, network in member.networks.items():
        for own, other in zip(network.buffers(), first.networks[name].buffers(), strict=True):
            if not torch.equal(own, other):
                return "their networks hold different buffers"
    return share(first.batches, member.batches)


def optimizer(member: Training) -> torch.optim.Optimizer:
    """Return a member's only optimizer."""
    return next(iter(member.optimizers.values()))


def schedule(member: Training) -> Any:
    """Return a member's only schedule."""
    return next(iter(member.schedules.values()))


def values(member: Training) -> list[nn.Parameter]:
    """Return a member's parameters, in the order of its row."""
    return list(member.players[0].parameters(member.networks))


def row(tensors: Sequence[Tensor]) -> Tensor:
    """Flatten tensors into one row, of shape P."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def gradients(
    member: Training, value_NP: Tensor, example: dict[str, Tensor]
) -> torch.fx.GraphModule:
    """Trace a graph (value_NP, batch) -> gradient_NP, losses_N for members like ``member``.

    vmap over the topic's objective, traced for batches like ``example`` to a graph of plain
    operations that gives the same numbers without vmap's cost. Raises NotStackable if vmap refuses.
    """
    (player,), networks = member.players, member.networks
    names = [
        (name, key) for name in player.networks for key, _ in networks[name].named_parameters()
    ]
    shapes = [parameter.shape for parameter in values(member)]

    def loss(leaves: Sequence[Tensor], batch: dict[str, Tensor]) -> Tensor:
        own: dict[str, dict[str, Tensor]] = {name: {} for name in networks}
        for (name, key), leaf in zip(names, leaves, strict=True):
            own[name][key] = leaf
        called: Any = {name: _Called(net, own[name]) for name, net in networks.items()}
        return player.objective(called, batch)

    def work(value_NP: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        parts = value_NP.split([shape.numel() for shape in shapes], dim=1)
        leaves = [part.unflatten(1, s or (1,)) for part, s in zip(parts, shapes, strict=True)]
        found, losses_N = vmap(grad_and_value(loss))(leaves, batch)
        return torch.cat([leaf.flatten(1) for leaf in found], dim=1), losses_N

    for network in networks.values():
        network.train()
    try:
        graph = make_fx(work)(value_NP, example)
    except Exception as error:  # vmap refuses by many types
        line = (str(error).strip().splitlines() or [""])[0]
        raise NotStackable(f"vmap refuses: {type(error).__name__}: {line[:200]}") from error
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


class _Called:
    """A network that is called with a member's parameters instead of its own."""

    def __init__(self, network: nn.Module, own: dict[str, Tensor]) -> None:
        self.network, self.own = network, own

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return functional_call(self.network, self.own, arguments, named)
