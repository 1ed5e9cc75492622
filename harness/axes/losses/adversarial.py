"""Adversarial (GAN) losses: each loss family for a discriminator and a generator (notes 91 and 98).

Shapes: B batch. The higher its score, the more real an image looks to the discriminator.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.axes.losses.forms import AdversarialLoss
from harness.axes.losses.loss import LOSSES
from harness.cell import unknown

DELTA = 0.5  # of huber: where the square turns into a line


# outside the families (Arjovsky et al. 2017)
WASSERSTEIN = AdversarialLoss(
    lambda real, fake: fake.mean() - real.mean(), lambda fake: -fake.mean()
)


def adversarial_loss(family: str) -> AdversarialLoss:
    """Return a loss's adversarial form. Raises UsageError if the loss is unknown."""
    if own := LOSSES.own.get(family):
        return own.adversarial()

    def towards(penalty: Callable[[Tensor], Tensor]) -> AdversarialLoss:
        """Penalise real scores off 1 and fake scores off 0, in the generator's turn off 1."""
        return AdversarialLoss(
            lambda real, fake: penalty(real - 1).mean() + penalty(fake).mean(),
            lambda fake: penalty(fake - 1).mean(),
        )

    def bernoulli(real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def huber(error: Tensor) -> Tensor:
        return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=DELTA)

    forms = {
        # non-saturating (Goodfellow et al. 2014, section 3)
        "log_loss": AdversarialLoss(bernoulli, lambda fake: F.softplus(-fake).mean()),
        # the minimax game itself (Goodfellow et al. 2014, equation 1): it saturates
        "ce": AdversarialLoss(bernoulli, lambda fake: -F.softplus(fake).mean()),
        # f-GAN's KL with the generator's alternative (Nowozin et al. 2016, section 3.2)
        "kl": AdversarialLoss(
            lambda real, fake: (fake - 1).exp().mean() - real.mean(), lambda fake: -fake.mean()
        ),
        # LSGAN (Mao et al. 2017)
        "mse": towards(torch.square),
        # hinge GAN (Lim & Ye 2017; Miyato et al. 2018)
        "hinge": AdversarialLoss(
            lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(),
            lambda fake: -fake.mean(),
        ),
        # this project's own form: LSGAN with Huber's loss in the place of the square
        "huber": towards(huber),
        # this project's own form: LSGAN with the absolute error in the place of the square
        "mae": towards(torch.abs),
    }
    if family not in forms:
        raise unknown("loss", family, LOSSES.every)
    return forms[family]
