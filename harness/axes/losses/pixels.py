"""The seven loss families over a pixel's levels (notes 93 and 98), each with its probability.

Shapes: N any leading dimensions, L levels (17 for the digits, else 256), W outputs per pixel value.
Levels are int64 in 0..L-1. ce, kl and log_loss are categorical over the levels; the others are
numeric with the density that the loss implies, p(x) ~ exp(-loss(x - location) / scale), made
discrete by summing over the levels only. That is a Gaussian for mse, a Laplace for mae, and the
noise models of Huber's and of Vapnik's loss (Huber 1964; Chu et al. 2004) for huber and hinge.
Location and scale are both outputs. So every family has bits/dim, and its samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.axes import losses
from harness.axes.losses import kept
from harness.axes.losses.forms import PixelForm, negative_at
from harness.cell import unknown

CATEGORICAL = ("ce", "kl", "log_loss")
DELTA = 0.25  # of huber, on values in -1..1
EPSILON = 0.0625  # of hinge, on values in -1..1: half a level of the digits
# how far outside of -1..1 a location still changes the density over the levels
REACH = {"mae": 0.0, "hinge": EPSILON, "huber": DELTA, "mse": math.inf}
LEAST, MOST = -12.0, 6.0  # of a scale's logarithm


def pixel_form(family: str, levels: int) -> PixelForm:
    """Return a loss's form for pixels of ``levels`` levels. Raises UsageError if unknown.

    The numeric families' loss is the negative logarithm of their probability, and more where a
    location or a scale lies where that no longer changes with it: they come back from there.
    One that was brought without a form for pixels has that for classes, each level a class.
    """
    if own := losses.LOSSES.own.get(family):
        if _has_pixels(own):
            return kept.levels(family, own.pixels(levels))
        return _of_classes(losses.categorical(family, levels), levels)
    if family not in losses.FAMILIES:
        raise unknown("loss", family, losses.LOSSES.every)
    if family in CATEGORICAL:
        categorical = losses.categorical(family, levels)
        if family == "log_loss":  # its decode is a softmax of log-sigmoids: say so in logs
            return PixelForm(levels, categorical.loss, lambda o: F.logsigmoid(o).log_softmax(-1))
        return PixelForm(levels, categorical.loss, lambda o: o.log_softmax(-1))

    def log_mass(outputs_N2: Tensor) -> Tensor:
        return _numeric_log_mass(family, levels, 0, outputs_N2)

    def loss(outputs_N2: Tensor, level_N: Tensor) -> Tensor:
        return negative_at(log_mass(outputs_N2), level_N) + _overshoot(family, outputs_N2)

    return PixelForm(2, loss, log_mass)


def image_form(family: str, levels: int) -> PixelForm:
    """Return a loss family's form for outputs_BCHWP of whole images, drawn all pixels at once.

    ce, kl and log_loss are those of ``pixel_form``. The numeric families differ in two ways,
    without which a decoder under them learns nothing of its images:

    - The scale is one for all values of an image, the mean of their outputs (Rybkin et al. 2021,
      "Simple and effective VAE training with calibrated decoders"). With a scale of its own each
      pixel is explained as noise, and the errors that the location should learn from are weighed
      down where they are large (Seitzer et al. 2022).
    - The loss is normalised over values reaching half the range further on either side. Over the
      levels alone a density with its location outside does not change as that moves on: under
      mae, huber and hinge its gradient is then exactly 0, and most pixels are dark.

    log_mass stays normalised over the levels, so the loss is an upper bound of its nll.
    Raises UsageError if the family is unknown.
    """
    pixelwise = pixel_form(family, levels)
    if family in CATEGORICAL or family in losses.LOSSES.own:
        return pixelwise
    beyond = levels // 2

    def share_scale(outputs_BCHW2: Tensor) -> Tensor:
        location_BCHW1, log_scale_BCHW1 = outputs_BCHW2.split(1, dim=-1)
        log_scale_B1111 = log_scale_BCHW1.mean((-4, -3, -2), keepdim=True)
        return torch.cat([location_BCHW1, log_scale_B1111.expand_as(location_BCHW1)], -1)

    def log_mass(outputs_BCHW2: Tensor) -> Tensor:
        return pixelwise.log_mass(share_scale(outputs_BCHW2))

    def loss(outputs_BCHW2: Tensor, level_BCHW: Tensor) -> Tensor:
        wide = _numeric_log_mass(family, levels, beyond, share_scale(outputs_BCHW2))
        return negative_at(wide, level_BCHW + beyond)

    return PixelForm(2, loss, log_mass)


def _has_pixels(own: losses.Loss) -> bool:
    return type(own).pixels is not losses.Loss.pixels


def _of_classes(classes: losses.Form, levels: int) -> PixelForm:
    """Return the form for pixels that a form for classes is, if each level is a class."""

    def log_mass(outputs_NL: Tensor) -> Tensor:
        return classes.decode(outputs_NL).clamp_min(torch.finfo(outputs_NL.dtype).tiny).log()

    return PixelForm(levels * classes.width, classes.loss, log_mass)


def _numeric_log_mass(family: str, levels: int, beyond: int, outputs_N2: Tensor) -> Tensor:
    """Return the log p of the levels and of ``beyond`` more on either side, normalised over all."""
    penalties: dict[str, Callable[[Tensor], Tensor]] = {
        "mse": torch.square,
        "mae": torch.abs,
        "huber": _huber,
        "hinge": _hinge,
    }
    location_N1, log_scale_N1 = outputs_N2[..., :1], outputs_N2[..., 1:].clamp(LEAST, MOST)
    end, count = 1 + 2 * beyond / (levels - 1), levels + 2 * beyond
    value_L = torch.linspace(-end, end, count, dtype=outputs_N2.dtype, device=outputs_N2.device)
    error_NL = value_L - location_N1
    return (-penalties[family](error_NL) * (-log_scale_N1).exp()).log_softmax(-1)


def _overshoot(family: str, outputs_N2: Tensor) -> Tensor:
    """Return how far each pixel's location and log scale are beyond all effect; mostly 0.

    A gentle slope is enough, since none is against it; one as steep as the density's own tail
    throws locations about that rest at their bound.
    """
    location_N, log_scale_N = outputs_N2.unbind(-1)
    too_far_N = (location_N.abs() - 1 - REACH[family]).clamp_min(0)
    return too_far_N + (log_scale_N - log_scale_N.clamp(LEAST, MOST)).abs()


def _huber(error: Tensor) -> Tensor:
    return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=DELTA)


def _hinge(error: Tensor) -> Tensor:
    return (error.abs() - EPSILON).clamp_min(0)


def to_levels(images_NCHW: Tensor, levels: int) -> Tensor:
    """Round uint8 images to ``levels`` evenly spaced levels, as int64 in 0..levels-1."""
    return (images_NCHW.double() * (levels - 1) / 255).round().long()


def to_images(level_NCHW: Tensor, levels: int) -> Tensor:
    """Turn levels into uint8 images in 0..255: the inverse of ``to_levels``."""
    return (level_NCHW.double() * 255 / (levels - 1)).round().to(torch.uint8)


def histogram_bits(train_NCHW: Tensor, test_NCHW: Tensor, levels: int) -> float:
    """Return test levels' bits/dim under a histogram per pixel of train levels, Laplace-smoothed.

    Each level is counted once more than it occurs.
    """
    values = train_NCHW[0].numel()
    first_bin = torch.arange(values) * levels  # of each pixel's bins
    count = (
        torch.bincount((train_NCHW.flatten(1) + first_bin).flatten(), minlength=values * levels) + 1
    )
    log_mass = (count.double() / (len(train_NCHW) + levels)).log2()
    return -log_mass[test_NCHW.flatten(1) + first_bin].mean().item()


def gaussian_bits(train_NCHW: Tensor, test_NCHW: Tensor, levels: int) -> float:
    """Return test levels' bits/dim under a Gaussian per pixel fitted to train levels.

    A level's probability is a difference of the cumulative function; the two outer levels take the
    tails, and a standard deviation is at least half a level.
    """
    mean, sd = train_NCHW.double().mean(0), train_NCHW.double().std(0).clamp_min(0.5)

    def below(edge: Tensor) -> Tensor:
        return 0.5 * (1 + torch.erf((edge - mean) / (sd * math.sqrt(2))))

    test = test_NCHW.double()
    high = torch.where(test_NCHW == levels - 1, torch.ones_like(test), below(test + 0.5))
    low = torch.where(test_NCHW == 0, torch.zeros_like(test), below(test - 0.5))
    return -(high - low).clamp_min(1e-12).log2().mean().item()
