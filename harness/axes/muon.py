"""Muon for matrices and AdamW for all else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, optim


class Muon(optim.Optimizer):
    """PyTorch's Muon (Jordan et al. 2024) on real matrices, and its AdamW on all other parameters.

    Its rate is AdamW's for both: Muon's updates have the size of AdamW's (Liu et al. 2025).
    parameters: or groups of them, each split in two. settings: of either, such as ``betas``.
    """

    def __init__(
        self, parameters: Iterable[Tensor] | Iterable[dict[str, Any]], lr: float, **settings: Any
    ) -> None:
        super().__init__(parameters, {"lr": lr, **settings})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group as two, of matrices and of the others, each if there are any."""
        given = param_group["params"]
        every = [given] if isinstance(given, Tensor) else list(given)
        for matrices in (True, False):
            some = [p for p in every if (p.ndim == 2 and p.is_floating_point()) is matrices]
            if some:
                own = {**self.defaults, **param_group, "params": some, "matrices": matrices}
                super().add_param_group({**_part(own).defaults, **own})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step of each group's optimizer."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            part = _part(group)
            part.param_groups, part.state = [group], self.state
            part.step()
        return loss


def _part(group: Mapping[str, Any]) -> optim.Optimizer:
    """Return torch's optimizer for a group, with the settings that it has of its own."""
    shared = {"lr": group["lr"], "weight_decay": group.get("weight_decay", 0.0)}
    if group["matrices"]:
        return optim.Muon(group["params"], adjust_lr_fn="match_rms_adamw", **shared)
    betas = group.get("betas", (0.9, 0.999))
    fused = fusable(group["params"])
    return optim.AdamW(group["params"], betas=betas, fused=fused, **shared)


def fusable(given: Iterable[Tensor] | Iterable[dict[str, Any]]) -> bool | None:
    """Return ``fused`` for Adam on parameters or groups: True, or None if some are complex."""
    groups = [part["params"] if isinstance(part, dict) else [part] for part in given]
    return all(p.is_floating_point() for group in groups for p in group) or None
