"""Look at what networks learn: which weights, and whether they are finite."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn


def frozen(networks: Mapping[str, nn.Module]) -> set[str]:
    """Return the parameters that do not learn, each as ``network.its.name``."""
    return {
        key
        for name, network in networks.items()
        for key, parameter in network.named_parameters(prefix=name)
        if not parameter.requires_grad
    }


def finite(networks: Mapping[str, nn.Module], left_out: Collection[str]) -> dict[str, Tensor]:
    """Return by network whether all its weights are finite, a boolean scalar where they are.

    left_out: parameters that may hold what they like, such as a mask of -inf. A network without
    others is not in it.
    """
    found = {}
    for name, network in networks.items():
        named = network.named_parameters(prefix=name)
        parts = [value.isfinite().all() for key, value in named if key not in left_out]
        if parts:
            found[name] = torch.stack(parts).all()
    return found
