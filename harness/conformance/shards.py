"""Is a batch's gradient the mean of its halves' gradients, as every parallel training takes it?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.utils._pytree import tree_leaves

from harness.axes import parallel
from harness.conformance.finding import Finding, does_not_apply, fails, holds, line_of
from harness.conformance.subject import RANKS
from harness.conformance.trace import bare, layers
from harness.training.loop import Training
from harness.training.random_state import random_state, set_random_state
from harness.training.topic import Player
from harness.trial import buffers
from harness.trial.device import device_of
from harness.trial.draws import Draws
from harness.trial.task import Task, training_of

LEAST = 1e-8  # of a gradient's norm: below it there is rounding only
ALIKE = 1e-4  # relative difference of a layer's outputs that is rounding
DRAWN = 16  # losses that are averaged where each is another, as it draws
SURE = 6.0  # standard errors that their mean must be away from what it is of a mean over samples
TWICE = 0.1  # relative difference of them that is scatter, where they are a sum

Outputs = list[tuple[str, list[Tensor]]]


def shards(task: Task, rank: int) -> Finding:
    """Compare each player's gradient of a batch with the mean of those of its halves.

    Layers that are known to differ, buffers that follow a batch, and what draws random numbers are
    named; then the comparison is made with all networks in evaluation mode.
    """
    if task.cell.model in task.topic.undivided:
        return does_not_apply(f"{task.cell.model}'s gradient is no mean over samples (undivided)")
    size = task.budget.batch_size
    if size % RANKS:
        return does_not_apply(f"a batch of {size} has no {RANKS} equal parts")
    training = training_of(task, device_of(task, rank), rank)
    for network in training.networks.values():
        network.train()
    players = list(training.players)
    apart = parallel.shared_apart(training.networks, RANKS)
    batch = dict(training.batches.draw(size))
    apart += _own_buffers(training, batch, apart)
    draws = Draws(training)
    for player in training.players:
        player.objective(training.networks, batch)
    draws_in = [*draws.layers, *draws.objectives]
    known = list(dict.fromkeys(apart + draws_in))
    if known:
        for network in training.networks.values():
            network.eval()
    wrong = _unequal(training, players, batch)
    untold = []
    for player in players:
        if player.name in wrong and draws_in and not _still(training, player, batch):
            del wrong[player.name]  # unequal numbers make unequal gradients
            if _sums(training, player, batch):
                where = line_of(player.objective)
                wrong[player.name] = f"{player.name}'s objective sums over the batch ({where})"
            else:
                untold.append(player.name)
    if wrong:
        return fails(
            "; ".join(wrong.values()) + (f"; besides, {_per_rank(known)}" if known else ""),
            "let each sample's part of the loss depend on that sample alone, and return their mean",
        )
    if known:
        rest = "all else is a mean over samples"
        if untold:
            rest = (
                "whether all else is a mean over samples cannot be told of "
                f"{', '.join(untold)}, which draws in evaluation mode too"
            )
        return does_not_apply(
            f"{_per_rank(known)}, so that parallel trainings cannot be single's; {rest}"
        )
    return holds(f"a batch's gradient is the mean of its {RANKS} halves' gradients")


def _per_rank(known: list[str]) -> str:
    return "; ".join(f"{name} per rank" for name in known)


def _own_buffers(training: Training, batch: Mapping[str, Tensor], known: list[str]) -> list[str]:
    """Name the layers whose buffers half of a batch changes otherwise than the whole does."""
    found = []
    for part in (batch, parallel.shard(batch, 0, RANKS)):
        with _put_back(training):
            before = buffers.copied(training.networks)
            for player in training.players:
                _loss(training, player, part)
            found.append(buffers.changed(before, training.networks))
    whole, half = found
    return buffers.apart(whole, half, known, parallel.TOLERANCE)


def _loss(training: Training, player: Player, batch: Mapping[str, Tensor]) -> float:
    """Return a player's loss on a batch; it may take gradients of its own."""
    if len(training.players) > 1:
        training.layout.freeze_others(player.name)
    return player.objective(training.networks, batch).item()


def _still(training: Training, player: Player, batch: Mapping[str, Tensor]) -> bool:
    """Whether an objective draws nothing now, so that its loss comes again under other numbers."""
    before = _loss(training, player, batch)
    torch.rand(1)
    return before == _loss(training, player, batch)


def _sums(training: Training, player: Player, batch: Mapping[str, Tensor]) -> bool:
    """Whether an objective that draws gives for a batch, on average, the sum of its parts' losses.

    False too where they scatter so that it cannot be told.
    """
    parts = [parallel.shard(batch, part, RANKS) for part in range(RANKS)]
    whole, half = [], []
    for _ in range(DRAWN):
        whole.append(_loss(training, player, batch))
        half.append(mean(_loss(training, player, part) for part in parts))
    apart = [w - h for w, h in zip(whole, half, strict=True)]
    off = abs(mean(whole) - RANKS * mean(half))
    scatter = stdev(apart) / math.sqrt(DRAWN)
    return abs(mean(apart)) > SURE * scatter and off < TWICE * abs(mean(whole))


def _unequal(training: Training, players: list[Player], batch: dict[str, Tensor]) -> dict[str, str]:
    """Return by player whose gradient is no mean over halves by how much, and where."""
    found = {}
    for player in players:
        if len(players) > 1:
            training.layout.freeze_others(player.name)
        loss, whole, outputs = _gradient(training, player, batch)
        halves = [
            _gradient(training, player, parallel.shard(batch, part, RANKS)) for part in range(RANKS)
        ]
        parts = {name: sum(h[1][name] for h in halves) / RANKS for name in whole}
        apart = {name: _apart(whole[name], parts[name]) for name in whole}
        norm = math.sqrt(sum(float(g.square().sum()) for g in whole.values()))
        off = math.sqrt(sum(float((whole[n] - parts[n]).square().sum()) for n in whole))
        if off <= parallel.TOLERANCE * max(norm, LEAST):
            continue
        worst = max(apart, key=lambda name: apart[name])
        half = mean(h[0] for h in halves)
        summed = abs(loss - RANKS * half) <= parallel.TOLERANCE * abs(loss) and half
        layer = _first_layer(outputs, [h[2] for h in halves])
        why = (
            "the objective sums over the batch"
            if summed
            else layer or "the objective itself, no layer"
        )
        where = f" ({line_of(player.objective)})" if not layer else ""
        found[player.name] = (
            f"{player.name}'s gradient is {off / max(norm, LEAST):.2g} away from the mean of its "
            f"halves' (relative; most in {worst}): {why}{where}"
        )
    return found


def _apart(whole: Tensor, parts: Any) -> float:
    return float((whole - parts).norm() / whole.norm().clamp_min(LEAST))


def _gradient(
    training: Training, player: Player, batch: Mapping[str, Tensor]
) -> tuple[float, dict[str, Tensor], Outputs]:
    """Return a player's loss and gradient on a batch, and its layers' outputs in order."""
    outputs: Outputs = []
    hooks = [
        layer.register_forward_hook(_keep(outputs, who)) for who, layer in layers(training.networks)
    ]
    parameters = {
        name: parameter
        for name, parameter in player.named_parameters(training.networks)
        if parameter.requires_grad
    }
    try:
        with _put_back(training):
            for parameter in parameters.values():
                parameter.grad = None
            loss = player.objective(training.networks, batch)
            loss.backward()
    finally:
        for hook in hooks:
            hook.remove()
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else bare(p.grad).detach().clone()
        for name, p in parameters.items()
    }
    return loss.item(), gradients, outputs


@contextmanager
def _put_back(training: Training) -> Iterator[None]:
    """Put back what the block changes in networks' buffers and in generators."""
    random = random_state(training.generator, training.gpus)
    kept = {
        key: {name: buffer.clone() for name, buffer in network.named_buffers()}
        for key, network in training.networks.items()
    }
    try:
        yield
    finally:
        set_random_state(random, training.generator, training.gpus)
        with torch.no_grad():
            for key, own in kept.items():
                for name, buffer in training.networks[key].named_buffers():
                    buffer.copy_(own[name])


def _keep(outputs: Outputs, who: str) -> Any:
    def hook(_: nn.Module, __: Any, output: Any) -> None:
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        with temporarily_clear_interpreter_stack():
            outputs.append((who, [bare(tensor).detach().clone() for tensor in tensors]))

    return hook


def _first_layer(whole: Outputs, halves: list[Outputs]) -> str:
    """Return the first layer that makes of a half something else than of the whole batch.

    Layers are called in the order of their ends, so what is inside of one comes before it. Empty if
    none does, or if that cannot be told.
    """
    if any(len(half) != len(whole) for half in halves):
        return ""
    for index, (who, tensors) in enumerate(whole):
        parts = [half[index][1] for half in halves]
        for number, tensor in enumerate(tensors):
            if any(half[index][0] != who or number >= len(half[index][1]) for half in halves):
                return ""
            together = [part[number] for part in parts]
            if tensor.ndim == 0 or sum(len(t) for t in together if t.ndim) != len(tensor):
                continue
            if not tensor.is_floating_point():
                continue
            joined = torch.cat(together)
            if joined.shape == tensor.shape and _apart(tensor, joined) > ALIKE:
                return f"{who} makes of half a batch something else than of the whole"
    return ""
