"""The forms of a loss: for predictions, for pixels, for an adversarial game.

Shapes: N any leading dimensions, K classes (last), W outputs per value (last), L levels, B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Form:
    """A loss for one kind of prediction: how it is computed, and how outputs are read.

    width: outputs per class (categorical, always 1) or per value (numeric).
    loss: (outputs, target) -> losses_N, one a sample and not their mean. decode: outputs_NK ->
    probabilities_NK, whose rows sum to 1, or outputs_NW -> values_N.
    """

    name: str
    width: int
    loss: Callable[[Tensor, Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class PixelForm:
    """A loss over the levels that a pixel can have, with the probability it implies.

    width: outputs per pixel value. loss: (outputs_NW, level_N) -> losses_N to minimise, in nats.
    log_mass: outputs_NW -> log p_NL, normalised over the levels.
    """

    width: int
    loss: Callable[[Tensor, Tensor], Tensor]
    log_mass: Callable[[Tensor], Tensor]

    def nll(self, outputs_NW: Tensor, level_N: Tensor) -> Tensor:
        """Return the negative log-likelihood of levels: -log p_N, in nats."""
        return negative_at(self.log_mass(outputs_NW), level_N)

    def mean(self, outputs_NW: Tensor) -> Tensor:
        """Return the expected level_N, rounded to the nearest level."""
        mass_NL = self.log_mass(outputs_NW).exp()
        level_L = torch.arange(mass_NL.shape[-1], device=mass_NL.device, dtype=mass_NL.dtype)
        return (mass_NL @ level_L).round().long()

    def draw(self, outputs_NW: Tensor, uniform_N: Tensor) -> Tensor:
        """Sample level_N by inverting the cumulative distribution at ``uniform_N`` in 0..1."""
        cumulative_NL = self.log_mass(outputs_NW).double().exp().cumsum(-1)
        level_N = (cumulative_NL < uniform_N[..., None]).sum(-1)
        return level_N.clamp_max(cumulative_NL.shape[-1] - 1)


@dataclass(frozen=True)
class AdversarialLoss:
    """The losses that a GAN's discriminator and generator minimise, given scores of images.

    discriminator: (real_B, fake_B) -> scalar. generator: fake_B -> scalar.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def negative_at(log_NK: Tensor, index_N: Tensor) -> Tensor:
    """Return minus each row's value at its index.

    ``gather`` would do it too, but its gradient's repeatable form on a GPU sorts all indices first.
    """
    if log_NK.ndim == 2:
        return F.nll_loss(log_NK, index_N, reduction="none")
    flat_N = F.nll_loss(log_NK.reshape(-1, log_NK.shape[-1]), index_N.reshape(-1), reduction="none")
    return flat_N.reshape(index_N.shape)
