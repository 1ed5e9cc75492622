"""Adversarial losses against the papers that they come from."""

import pytest
import torch

from harness.axes.losses import adversarial
from harness.cell import UsageError


def test_games_are_the_papers():
    real, fake = torch.tensor([0.3, -1.2]), torch.tensor([0.8, -0.4])
    p, q = real.sigmoid(), fake.sigmoid()
    goodfellow = -(p.log().mean() + (1 - q).log().mean())
    for family in ("ce", "log_loss"):
        torch.testing.assert_close(
            adversarial.adversarial_loss(family).discriminator(real, fake), goodfellow
        )
    torch.testing.assert_close(
        adversarial.adversarial_loss("ce").generator(fake), (1 - q).log().mean()
    )
    torch.testing.assert_close(
        adversarial.adversarial_loss("log_loss").generator(fake), -q.log().mean()
    )
    lsgan = (real - 1).square().mean() + fake.square().mean()
    torch.testing.assert_close(adversarial.adversarial_loss("mse").discriminator(real, fake), lsgan)
    with pytest.raises(UsageError, match="unknown loss 'l1'"):
        adversarial.adversarial_loss("l1")


def test_f_gans_kl_bounds_the_divergence():
    """The best score, 1 + log p/q, makes the discriminator's value the KL (Nowozin et al. 2016)."""
    p, q = torch.tensor([0.7, 0.3]), torch.tensor([0.4, 0.6])
    best = 1 + (p / q).log()
    value = (p * best).sum() - (q * (best - 1).exp()).sum()
    torch.testing.assert_close(value, (p * (p / q).log()).sum())
    loss = adversarial.adversarial_loss("kl").discriminator(
        best.repeat_interleave(2), best.repeat_interleave(2)
    )
    torch.testing.assert_close(loss, (best - 1).exp().mean() - best.mean())
