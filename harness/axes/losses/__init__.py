"""The seven loss families (note 98): on predictions, on pixels, and as adversarial games."""

from harness.axes.losses.prediction import FAMILIES, Form, categorical, negative_at, numeric

__all__ = ["FAMILIES", "Form", "categorical", "negative_at", "numeric"]
