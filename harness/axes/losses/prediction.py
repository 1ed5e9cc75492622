"""Seven loss families (note 98), each for a categorical and for a numeric prediction.

Shapes: N any leading dimensions, K classes (last), W outputs per numeric value (last), E bin edges.
A form's loss keeps one value per element, so that the caller weighs and averages.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.axes.losses import kept
from harness.axes.losses.forms import Form, negative_at
from harness.axes.losses.loss import LOSSES
from harness.cell import unknown

SMOOTHING = 0.1  # of the categorical kl's target (Szegedy et al. 2016)


def categorical(family: str, classes: int) -> Form:
    """Return a loss's form for classes: outputs_NK against class indices target_N.

    family: one of the seven, or a loss that was brought, which is held to what ``Form`` says.
    Raises UsageError if it is unknown.
    """
    if own := LOSSES.own.get(family):
        return kept.classes(family, own.categorical(classes))

    def one_hot(target_N: Tensor, like_NK: Tensor) -> Tensor:
        class_K = torch.arange(classes, device=target_N.device)  # F.one_hot cannot be traced
        return (target_N[..., None] == class_K).to(like_NK.dtype)

    def softmax(outputs_NK: Tensor) -> Tensor:
        return _along_1(torch.softmax, outputs_NK)

    def log_softmax(outputs_NK: Tensor) -> Tensor:
        return _along_1(torch.log_softmax, outputs_NK)

    def mse(outputs_NK: Tensor, target_N: Tensor) -> Tensor:
        """The Brier score (Brier 1950)."""
        return (softmax(outputs_NK) - one_hot(target_N, outputs_NK)).square().sum(-1)

    def ce(outputs_NK: Tensor, target_N: Tensor) -> Tensor:
        return negative_at(log_softmax(outputs_NK), target_N)

    def log_loss(outputs_NK: Tensor, target_N: Tensor) -> Tensor:
        """One-vs-rest: the log loss of a Bernoulli per class, summed."""
        return F.binary_cross_entropy_with_logits(
            outputs_NK, one_hot(target_N, outputs_NK), reduction="none"
        ).sum(-1)

    def kl(outputs_NK: Tensor, target_N: Tensor) -> Tensor:
        """KL(smoothed target || prediction)."""
        target_NK = one_hot(target_N, outputs_NK) * (1 - SMOOTHING) + SMOOTHING / classes
        return (target_NK * (target_NK.log() - log_softmax(outputs_NK))).sum(-1)

    def hinge(outputs_NK: Tensor, target_N: Tensor) -> Tensor:
        """Multi-class margin of the hardest wrong class (Crammer & Singer 2001)."""
        right_NK = one_hot(target_N, outputs_NK)
        score_N = (outputs_NK * right_NK).sum(-1)
        rival_N = (outputs_NK - right_NK * 1e9).amax(-1)
        return (1 + rival_N - score_N).clamp_min(0)

    def huber(outputs_NK: Tensor, target_N: Tensor) -> Tensor:
        """Huber's loss (1964) of probabilities against one-hot.

        Errors up to its delta of 0.5 count half as much as in the Brier score.
        """
        return F.huber_loss(
            softmax(outputs_NK), one_hot(target_N, outputs_NK), reduction="none", delta=0.5
        ).sum(-1)

    def mae(outputs_NK: Tensor, target_N: Tensor) -> Tensor:
        """Absolute error of probabilities (Ghosh et al. 2017): 2 (1 - p of the target)."""
        return (softmax(outputs_NK) - one_hot(target_N, outputs_NK)).abs().sum(-1)

    def normalised_sigmoid(outputs_NK: Tensor) -> Tensor:
        return F.logsigmoid(outputs_NK).softmax(-1)

    forms = {f.__name__: f for f in (mse, ce, log_loss, kl, hinge, huber, mae)}
    if family not in forms:
        raise unknown("loss", family, LOSSES.every)
    decode = normalised_sigmoid if family == "log_loss" else softmax
    return Form(family, 1, forms[family], decode)


def _along_1(work: Callable[[Tensor, int], Tensor], outputs_NK: Tensor) -> Tensor:
    """Apply a softmax over the last dimension, moved to dimension 1 for speed.

    Over a short last dimension torch 2.14 works element by element.
    """
    dim = min(1, outputs_NK.ndim - 1)
    if dim == outputs_NK.ndim - 1:
        return work(outputs_NK, dim)
    return work(outputs_NK.movedim(-1, dim), dim).movedim(dim, -1)


def numeric(
    family: str,
    low: float,
    high: float,
    bins: int = 32,
    *,
    epsilon: float = 0.1,
    delta: float = 1.0,
) -> Form:
    """Return a loss's form for numbers: outputs_NW against target_N, expected in low..high.

    ce, kl and log_loss have an output for each of ``bins`` bins and clamp targets to low..high; the
    others have one output. epsilon: the error that hinge overlooks; delta: the error from which
    huber is linear; both in the target's units, by default those of scikit-learn's SVR and of
    PyTorch for standardised targets. family: one of the seven, or a loss that was brought. Raises
    UsageError if it is unknown.
    """
    if own := LOSSES.own.get(family):
        return kept.numbers(family, own.numeric(low, high, bins, epsilon=epsilon, delta=delta))
    step = (high - low) / bins

    def edges(like: Tensor) -> Tensor:
        return torch.linspace(low, high, bins + 1, dtype=like.dtype, device=like.device)

    def centres(like: Tensor) -> Tensor:
        return edges(like)[:-1] + step / 2

    def hl_gauss(target_N: Tensor, like: Tensor) -> Tensor:
        """Turn values into mass_NW over bins: Gaussians of 0.75 bins (Farebrother et al. 2024)."""
        value_N1 = target_N.clamp(low, high)[..., None]
        cdf_NE = torch.erf((edges(like) - value_N1) / (0.75 * step * math.sqrt(2)))
        mass_NW = cdf_NE.diff(dim=-1)
        return mass_NW / mass_NW.sum(-1, keepdim=True)

    def mse(outputs_NW: Tensor, target_N: Tensor) -> Tensor:
        return (outputs_NW[..., 0] - target_N).square()

    def ce(outputs_NW: Tensor, target_N: Tensor) -> Tensor:
        return -(hl_gauss(target_N, outputs_NW) * outputs_NW.log_softmax(-1)).sum(-1)

    def kl(outputs_NW: Tensor, target_N: Tensor) -> Tensor:
        """KL(projected target || prediction), the loss of C51 (Bellemare et al. 2017).

        The target is projected onto its two neighbouring atoms, which it is the mean of.
        """
        place_N1 = ((target_N.clamp(low, high) - low) / (high - low) * (bins - 1))[..., None]
        index_W = torch.arange(bins, dtype=outputs_NW.dtype, device=outputs_NW.device)
        target_NW = (1 - (place_N1 - index_W).abs()).clamp_min(0)
        negentropy_N = torch.special.xlogy(target_NW, target_NW).sum(-1)
        return negentropy_N - (target_NW * outputs_NW.log_softmax(-1)).sum(-1)

    def log_loss(outputs_NW: Tensor, target_N: Tensor) -> Tensor:
        """Ordinal loss: a Bernoulli per threshold (Frank & Hall 2001), soft within its own bin.

        The target at a threshold is how far the value has passed the bin around it, so that
        decoding the perfect outputs gives the value back.
        """
        passed_NW = ((target_N[..., None] - edges(outputs_NW)[:-1]) / step).clamp(0, 1)
        return F.binary_cross_entropy_with_logits(outputs_NW, passed_NW, reduction="none").sum(-1)

    def hinge(outputs_NW: Tensor, target_N: Tensor) -> Tensor:
        """Epsilon-insensitive absolute error (Vapnik 1995)."""
        return ((outputs_NW[..., 0] - target_N).abs() - epsilon).clamp_min(0)

    def huber(outputs_NW: Tensor, target_N: Tensor) -> Tensor:
        return F.huber_loss(outputs_NW[..., 0], target_N, reduction="none", delta=delta)

    def mae(outputs_NW: Tensor, target_N: Tensor) -> Tensor:
        return (outputs_NW[..., 0] - target_N).abs()

    def value(outputs_NW: Tensor) -> Tensor:
        return outputs_NW[..., 0]

    def expectation(outputs_NW: Tensor) -> Tensor:
        """Decode ce: the mean of the bins' centres."""
        return outputs_NW.softmax(-1) @ centres(outputs_NW)

    def expected_atom(outputs_NW: Tensor) -> Tensor:
        """Decode kl: the mean of the atoms, which are spread evenly from ``low`` to ``high``."""
        atom_W = torch.linspace(low, high, bins, dtype=outputs_NW.dtype, device=outputs_NW.device)
        return outputs_NW.softmax(-1) @ atom_W

    def count(outputs_NW: Tensor) -> Tensor:
        """Decode log_loss: ``low`` and a bin per threshold, times its probability to be passed."""
        return low + step * outputs_NW.sigmoid().sum(-1)

    forms = {f.__name__: f for f in (mse, ce, log_loss, kl, hinge, huber, mae)}
    if family not in forms:
        raise unknown("loss", family, LOSSES.every)
    decode = {"ce": expectation, "kl": expected_atom, "log_loss": count}.get(family, value)
    return Form(family, 1 if decode is value else bins, forms[family], decode)
