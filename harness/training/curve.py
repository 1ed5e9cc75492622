"""Thin what a training recorded at each step to what a chart can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isnan, nan
from typing import Any

import torch
from torch import Tensor


def history(
    losses: Sequence[Tensor], rates: Sequence[float], measures: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Return what a training recorded at each step as a tree of tensors, for its checkpoint."""
    return {
        "losses": torch.stack(list(losses)) if losses else torch.empty(0),
        "rates": torch.tensor(rates, dtype=torch.float64),
        "measures": {name: torch.tensor(v, dtype=torch.float64) for name, v in measures.items()},
    }


def thinned(
    losses: Sequence[Tensor],
    rates: Sequence[float],
    measures: Mapping[str, Sequence[float]],
    points: int,
) -> dict[str, list[float]]:
    """Return step, loss, learning rate (lr) and each measure at about ``points`` of the steps.

    Each loss is the mean since the last point, each measure the last that there was since then (NaN
    if none), the rate the one then. Empty without losses.
    """
    if not losses:
        return {}
    loss_T = torch.stack(list(losses)).cpu().double()
    edges = torch.linspace(0, len(loss_T), min(points, len(loss_T)) + 1).long().tolist()
    spans = list(pairwise(edges))
    return {
        "step": [float(end) for _, end in spans],
        "loss": [loss_T[start:end].mean().item() for start, end in spans],
        "lr": [rates[end - 1] for _, end in spans],
        **{
            name: [_last(seen[start:end]) for start, end in spans]
            for name, seen in measures.items()
        },
    }


def _last(values: Sequence[float]) -> float:
    """Return the last of some values that is a number; NaN if none is."""
    return next((value for value in reversed(values) if not isnan(value)), nan)
