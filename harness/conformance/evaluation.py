"""Does measuring a network give the metrics that are declared, and leave it as it was?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from harness.axes import parallel
from harness.cell import UsageError, some_of
from harness.conformance.finding import Finding, fails, holds
from harness.conformance.outside import changed
from harness.conformance.trace import layers, leaves
from harness.training.loop import Training
from harness.training.random_state import random_state, set_random_state
from harness.trial.device import device_of
from harness.trial.task import Task, measured, training_of

MODES = "leave networks in the mode they come in: they are in evaluation mode, without train()"


def evaluation(task: Task, rank: int) -> Finding:
    """Evaluate and validate twice, and look at the metrics and at what has changed."""
    training = training_of(task, device_of(task, rank), rank)
    training.run(2)
    for network in training.networks.values():
        network.eval()
    told = []
    for method in ("evaluate", "validate"):
        function = getattr(task.topic, method)
        found = _looked_at(task, training, method, function)
        if isinstance(found, Finding):
            return found
        told.append(f"{method} gives {some_of([*found])}" if found else f"there is no {method}")
    return holds(f"{', '.join(told)}; all is left as it was")


def _looked_at(
    task: Task, training: Training, method: str, function: Callable[..., Any]
) -> Finding | dict[str, float]:
    """Return the metrics of two equal calls, or what is wrong with them or with what they left."""
    networks = training.networks
    before, modes = _contents(networks), _modes(networks)
    random = random_state(training.generator, training.gpus)
    used: dict[str, None] = {}
    names = {layer: who for who, layer in layers(networks)}

    def note(layer: nn.Module, _: Any) -> None:
        if layer in names and layer.training:
            used[names[layer]] = None

    hook = register_module_forward_pre_hook(note)
    try:
        values = [function(networks, task.cell)]
        hook.remove()
        after, modes_after = _contents(networks), _modes(networks)
        for network in networks.values():
            network.eval()
        set_random_state(random, training.generator, training.gpus)
        values.append(function(networks, task.cell))
    finally:
        hook.remove()
        set_random_state(random, training.generator, training.gpus)
    if unlike := changed(before, after):
        return fails(f"{method} changes {some_of(unlike)}", f"measure only; {MODES}")
    if used:
        alone = [name for name in used if _matters(name)] or [*used]
        return fails(f"{method} runs {some_of(alone)} in training mode", MODES)
    if unlike := [name for name in modes if modes[name] != modes_after[name]]:
        return fails(f"{method} leaves {some_of(unlike)} in training mode", MODES)
    try:
        (metrics, _), (again, _) = (measured(task, value, method) for value in values)
    except UsageError as error:
        return fails(str(error), "return what directions declares")
    if odd := [name for name, value in metrics.items() if not math.isfinite(value)]:
        return fails(
            f"{method} gives {', '.join(f'{name} = {metrics[name]}' for name in odd)}",
            "a metric is a finite number, also of a network that is hardly trained: leave it out "
            "where it is not known",
        )
    if other := [name for name in metrics if metrics[name] != again.get(name)]:
        return fails(
            f"{method} twice gives {other[0]} = {metrics[other[0]]:.6g} and "
            f"{again.get(other[0], math.nan):.6g}",
            "seed what it draws by the cell's seed, or draw from torch's global generator",
        )
    return metrics


def _contents(networks: Mapping[str, nn.Module]) -> dict[str, str]:
    return {
        f"{key}.{name}": value
        for key, network in networks.items()
        for name, value in leaves(dict(network.state_dict())).items()
    }


def _modes(networks: Mapping[str, nn.Module]) -> dict[str, bool]:
    return {who: layer.training for who, layer in layers(networks)}


def _matters(name: str) -> bool:
    """Whether a layer, by its name, is one that training mode changes."""
    return any(word in name for word in ("Norm", "Drop", parallel.DRAWS))
