"""Balance several tasks that share a trunk: learned uncertainty, projected gradients (note 99).

Shapes: T tasks, P parameters of the trunk.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.axes import parallel


class Uncertainty(nn.Module):
    """Weighs task losses by learned uncertainty: losses_1T -> scalar (Kendall et al. 2018).

    Their form for a categorical likelihood, exp(-s) L + s / 2 with s = log variance, for all tasks;
    at its best s each weight is 1 / (2 L).
    """

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.log_variance_T = nn.Parameter(torch.zeros(tasks))

    def forward(self, losses_1T: Tensor) -> Tensor:
        return ((-self.log_variance_T).exp() * losses_1T + self.log_variance_T / 2).sum()


def project(gradients_TP: Tensor, order_TT: Tensor) -> Tensor:
    """Remove from each task's gradient what conflicts with the others' (PCGrad, Yu et al. 2020).

    Task i meets the others in the order of order_TT[i]; of a gradient that conflicts with another
    (negative inner product), only the part at right angles to it stays.
    """
    projected = []
    for i, order_T in enumerate(order_TT):
        own_P = gradients_TP[i]
        for other, other_P in zip(order_T, gradients_TP[order_T], strict=True):
            conflict = (own_P @ other_P).clamp_max(0) * (other != i)
            own_P = own_P - conflict / other_P.square().sum().clamp_min(1e-30) * other_P
        projected.append(own_P)
    return torch.stack(projected)


def pcgrad(
    losses_T: Tensor, trunk: nn.Module, heads: Sequence[nn.Module], order_TT: Tensor
) -> Tensor:
    """Return the losses' sum, whose gradient for the trunk is the sum of the projected gradients.

    heads: each task's own network, whose gradient is that of its loss. Where the trunk has replicas
    on other ranks, a task's gradients are averaged over them before any is projected: the result
    is that of the whole batch. The gradients are constants: there is no second derivative.
    """
    shared = list(trunk.parameters())
    rows, terms = [], []
    for loss, head in zip(losses_T, heads, strict=True):
        own = list(head.parameters())
        found = torch.autograd.grad(loss, [*shared, *own], retain_graph=True)
        rows.append(torch.cat([gradient.flatten() for gradient in found[: len(shared)]]))
        terms += [(p * g).sum() for p, g in zip(own, found[len(shared) :], strict=True)]
    gradients_TP = parallel.mean_over_replicas(trunk, torch.stack(rows))
    agreed_P = project(gradients_TP, order_TT).sum(0)
    terms.append(torch.cat([p.flatten() for p in shared]) @ agreed_P)
    linear = torch.stack(terms).sum()
    return losses_T.detach().sum() + (linear - linear.detach())
