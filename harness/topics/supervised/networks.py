"""Check a user's models: what their functions take, and what the networks give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.cell import UsageError
from harness.topics.supervised.given import Given
from harness.topics.supervised.parts import Part

OUTPUTS = "outputs"  # the parameter by which a model is told how many it needs


def refuse_parameters(model: str, made: Given) -> None:
    """Raise UsageError for a model's function that needs arguments which nothing gives it."""
    for name, parameter in made.parameters().items():
        needed = parameter.default is parameter.empty and name != OUTPUTS
        if needed and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UsageError(
                f"models[{model!r}] needs {name}, which nothing gives it: functools.partial does; "
                f"{OUTPUTS} alone is given, how many outputs a sample needs"
            )


def try_out(model: str, network: Any, parts: Mapping[str, Part], outputs: int) -> None:
    """Call a network on two samples of each part, which also makes its lazy layers.

    Raises UsageError if it is none, or does not give so many outputs.
    """
    if not isinstance(network, nn.Module):
        raise UsageError(
            f"models[{model!r}] gives a {type(network).__name__}: a nn.Module is needed"
        )
    trains = network.training
    try:
        network.eval()
        for name, part in parts.items():
            _try_on(model, network, name, part, outputs)
    finally:
        network.train(trains)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UsageError(f"model {model} has no parameter to train")


def try_training(model: str, network: nn.Module, part: Part, outputs: int) -> None:
    """Call a network on two samples in training mode, which may leave it changed.

    Raises UsageError if it does not give so many outputs then, as with auxiliary heads.
    """
    x_B = _two(part)
    network.train()
    try:
        with torch.no_grad():
            found = network(x_B)
    except Exception:  # two samples may be too few: the training itself tells
        return
    _refuse_other(f"in training mode, model {model}", found, x_B, "", outputs)


def _try_on(model: str, network: nn.Module, name: str, part: Part, outputs: int) -> None:
    x_B, whose = _two(part), "" if name == "data" else f"{name}'s "
    try:
        with torch.no_grad():
            found = network(x_B)
    except Exception as error:
        line = " ".join(str(error).split())[:200]
        raise UsageError(
            f"model {model} fails on {whose}{_told(x_B)}: {type(error).__name__}: {line}"
        ) from error
    _refuse_other(f"model {model}", found, x_B, whose, outputs)


def refuse_single(x_B: Tensor, part: Part) -> None:
    """Raise UsageError for x of other dimensions than a part's samples have, as a single one."""
    usual = _two(part)
    if x_B.ndim != usual.ndim:
        raise UsageError(
            f"samples to predict have shape {tuple(x_B.shape)}: {tuple(usual.shape[1:])} each is "
            "needed, along the first dimension"
        )


def _two(part: Part) -> Tensor:
    """Return x of a part's first two samples."""
    row_B = part.rows[:2]
    return part.samples.read(row_B, row_B)[0]


def _refuse_other(what: str, found: Any, x_B: Tensor, whose: str, outputs: int) -> None:
    """Raise UsageError, as ``what``, for what a network gives if it is not so many outputs."""
    if not isinstance(found, Tensor):
        raise UsageError(f"{what} gives a {type(found).__name__}: one tensor is needed")
    if found.shape != (len(x_B), outputs):
        raise UsageError(
            f"{what} gives outputs of shape {tuple(found.shape)} for {whose}{_told(x_B)}: "
            f"({len(x_B)}, {outputs}) is needed"
        )


def _told(x_B: Tensor) -> str:
    return f"x of shape {tuple(x_B.shape)}, {str(x_B.dtype).removeprefix('torch.')}"
