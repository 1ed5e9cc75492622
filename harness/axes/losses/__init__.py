"""The seven loss families (note 98), and one's own: predictions, pixels, adversarial games."""

from harness.axes.losses.forms import AdversarialLoss, Form, PixelForm, negative_at
from harness.axes.losses.loss import FAMILIES, LOSSES, Loss
from harness.axes.losses.prediction import categorical, numeric

__all__ = [
    "FAMILIES",
    "LOSSES",
    "AdversarialLoss",
    "Form",
    "Loss",
    "PixelForm",
    "categorical",
    "negative_at",
    "numeric",
]
