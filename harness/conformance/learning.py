"""Does training do something: the loss falls on one batch, and every parameter gets a gradient."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from statistics import mean

import torch
from torch import Tensor, nn

from harness.cell import some_of
from harness.conformance.finding import Finding, does_not_apply, fails, holds
from harness.conformance.subject import STEPS
from harness.training.batches import Batches
from harness.training.loop import Diverged, Training
from harness.trial.device import device_of
from harness.trial.task import Task, training_of

ON_ONE_BATCH = 50  # steps
SEVERAL = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)  # hold e.g. experts
ENDS = 5  # losses that are averaged at either end, since dropout and the like scatter them
OTHER_RATES = (0.1, 0.01, 10.0)  # tried where the loss does not fall


class _Same(Batches):
    """A stream that gives the same batch again and again."""

    def __init__(self, batch: dict[str, Tensor]) -> None:
        self._batch = batch

    def draw(self, size: int) -> dict[str, Tensor]:
        return dict(self._batch)


def loss_falls(task: Task, rank: int) -> Finding:
    """Train on one batch over and over, and hold its last losses against its first."""
    if not task.topic.loss_falls:
        return does_not_apply("the topic says that its loss does not fall (loss_falls = False)")
    training = _on_one_batch(task, 1.0)
    if len(training.players) > 1:
        names = ", ".join(player.name for player in training.players)
        return does_not_apply(f"the players {names} work against or beside each other")
    before = {id(p): p.detach().clone() for p in training.players[0].parameters(training.networks)}
    first, last = _losses(training)
    if last < first:
        return holds(f"on one batch from {first:.4g} to {last:.4g} in {ON_ONE_BATCH} steps")
    text = f"on one batch from {first:.4g} to {last:.4g} in {ON_ONE_BATCH} steps"
    now = training.players[0].parameters(training.networks)
    if all(torch.equal(before[id(p)], p) for p in now):
        return fails(f"{text}, and no parameter has changed", "see gradients below")
    for rate in OTHER_RATES:
        first, last = _losses(_on_one_batch(task, rate))
        if last < first:
            return fails(
                f"{text}; at {rate:g} times the learning rate to {last:.4g}",
                f"set the learning rate to about {rate:g} of what it is",
            )
    return fails(
        f"{text}, nor at a tenth, a hundredth or ten times the learning rate",
        "look for a wrong sign, a detach, and targets that do not depend on what the network sees",
    )


def _on_one_batch(task: Task, rate: float) -> Training:
    budget = replace(task.budget, steps=ON_ONE_BATCH)
    task = replace(task, budget=budget, rate=rate)
    training = training_of(task, device_of(task, 0), 0)
    training.batches = _Same(training.batches.draw(budget.batch_size))
    training.failure_checks = set()
    return training


def _losses(training: Training) -> tuple[float, float]:
    """Train to the end; return the mean of the first and of the last losses, inf if not finite."""
    try:
        training.run(ON_ONE_BATCH)
    except Diverged:
        first = mean(loss.item() for loss in training.losses[:1])
        return first, math.inf
    losses = [loss.item() for loss in training.losses]
    return mean(losses[:ENDS]), mean(losses[-ENDS:])


def gradients(task: Task, rank: int) -> Finding:
    """Train a few steps, and name the parameters that get no gradient, or that nothing moves.

    What may be so on purpose is asked about: frozen ones, a network that no loss reaches, such as a
    copy of another, and one of several experts.
    """
    training = training_of(task, device_of(task, rank), rank)
    named = {
        f"{key}.{name}": parameter
        for key, network in training.networks.items()
        for name, parameter in network.named_parameters()
    }
    frozen = {name for name, parameter in named.items() if not parameter.requires_grad}
    before = {name: parameter.detach().clone() for name, parameter in named.items()}
    seen = _watch(training, named)
    training.run(STEPS)
    moved = {name for name, parameter in named.items() if not torch.equal(before[name], parameter)}
    wrong: dict[str, str] = {}  # what is wrong, and what to do
    asked: dict[str, list[str]] = {}
    still = [name for name in named if name not in moved | frozen]
    mine = {id(p) for player in training.players for p in player.parameters(training.networks)}
    none = [name for name in still if id(named[name]) in mine and name not in seen]
    zero = [name for name in named if id(named[name]) in mine and seen.get(name) is False]
    zero = [name for name in zero if name not in frozen]
    asked["reached by no sample yet"] = experts = [
        name for name in (*none, *zero) if _others_learn(name, seen, training.networks)
    ]
    if none := [name for name in none if name not in experts]:
        wrong[f"{some_of(none)} {_get(none)} no gradient"] = (
            "the loss does not depend on it, or is cut off by detach, .data, no_grad, argmax or "
            ".item(): use it, or freeze it by requires_grad_(False)"
        )
    if zero := [name for name in zero if name not in experts]:
        wrong[f"the gradient of {some_of(zero)} is exactly 0 in all {STEPS} steps"] = (
            "what comes after is saturated, dead (a ReLU below 0) or multiplied by 0"
        )
    alone = [name for name in still if id(named[name]) not in mine]
    reached = _reached(training, {n: p for n, p in named.items() if n not in frozen}, alone)
    asked["copied from time to time"] = [name for name in alone if name not in reached]
    if alone := [name for name in alone if name in reached]:
        wrong[f"no player moves {some_of(alone)}"] = (
            "name its network in a Player, or freeze it by requires_grad_(False)"
        )
    if loose := _loose(training.networks):
        wrong[f"{some_of(loose)} {_is(loose)} a tensor with requires_grad, and no parameter"] = (
            "no optimizer moves it and no checkpoint holds it: make it an nn.Parameter"
        )
    if wrong:
        return fails("; ".join(wrong), "; ".join(wrong.values()))
    asked["frozen on purpose"] = [name for name in named if name in frozen and name not in moved]
    told = "".join(f"; {why}? {some_of(names)}" for why, names in asked.items() if names)
    left = {*frozen, *itertools.chain(*asked.values())}
    return holds(f"{len(named) - len(left)} parameters get one in {STEPS} steps{told}")


def _get(names: list[str]) -> str:
    return "gets" if len(names) == 1 else "get"


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are each"


def _watch(training: Training, named: dict[str, nn.Parameter]) -> dict[str, bool]:
    """Return, filled as it trains, which parameters had a gradient, and if it was ever not 0."""
    seen: dict[str, bool] = {}

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in named.items():
            if id(parameter) in own and parameter.grad is not None:
                seen[name] = seen.get(name, False) or bool(parameter.grad.any())

    for optimizer in training.optimizers.values():
        optimizer.register_step_pre_hook(look)
    return seen


def _others_learn(name: str, seen: dict[str, bool], networks: dict[str, nn.Module]) -> bool:
    """Whether a parameter's like, in another of a list of layers, has had a gradient."""
    layers = {
        f"{key}.{path}".rstrip("."): layer
        for key, network in networks.items()
        for path, layer in network.named_modules()
    }
    parts = name.split(".")
    for other in (other.split(".") for other, learns in seen.items() if learns):
        apart = [n for n, (a, b) in enumerate(zip(parts, other, strict=False)) if a != b]
        holder = layers.get(".".join(parts[: apart[0]])) if len(apart) == 1 else None
        if len(parts) == len(other) and isinstance(holder, SEVERAL):
            return True
    return False


def _reached(training: Training, trained: dict[str, nn.Parameter], names: list[str]) -> set[str]:
    """Return which of the names some player's loss has a gradient for, whoever moves them.

    trained: the parameters that are not frozen, by name; all take gradients afterwards.
    """
    if not names:
        return set()
    for parameter in trained.values():  # of several players, those that do not move it freeze it
        parameter.requires_grad_(True)
    for player in training.players:
        batch = training.batches.draw(training.budget.batch_size)
        player.objective(training.networks, batch).backward()
    return {name for name in names if trained[name].grad is not None}


def _loose(networks: dict[str, nn.Module]) -> list[str]:
    """Return the attributes of layers that are tensors with requires_grad, but no parameters."""
    return [
        f"{key}.{name}{'.' if name else ''}{attribute}"
        for key, network in networks.items()
        for name, layer in network.named_modules()
        for attribute, value in vars(layer).items()
        if isinstance(value, Tensor) and value.requires_grad and value.is_leaf
    ]
