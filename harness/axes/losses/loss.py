"""What a project brings as a loss of its own, and which losses there are."""

from __future__ import annotations

from harness.axes.axis import Axis, Value
from harness.axes.losses.forms import AdversarialLoss, Form, PixelForm
from harness.cell import UsageError

FAMILIES = ("mse", "ce", "log_loss", "kl", "hinge", "huber", "mae")
FORMS = ("categorical", "numeric", "pixels", "adversarial")


class Loss(Value):
    """A loss of one's own, in the forms that it has: override those.

    A topic that needs another form skips its cells with that reason.
    """

    def categorical(self, classes: int) -> Form:
        """Return the form for classes: outputs_NK against class indices target_N."""
        raise NotImplementedError

    def numeric(self, low: float, high: float, bins: int, *, epsilon: float, delta: float) -> Form:
        """Return the form for numbers: outputs_NW against target_N, expected in low..high.

        bins: how many a histogram would have. epsilon and delta: an error that is small and one
        that is large, in the target's units.
        """
        raise NotImplementedError

    def pixels(self, levels: int) -> PixelForm:
        """Return the form for pixels of so many levels; by default the one for so many classes."""
        raise NotImplementedError

    def adversarial(self) -> AdversarialLoss:
        """Return the form for a discriminator and a generator."""
        raise NotImplementedError

    @property
    def forms(self) -> tuple[str, ...]:
        """The names of the forms that it has."""
        has = {form for form in FORMS if getattr(type(self), form) is not getattr(Loss, form)}
        return tuple(f for f in FORMS if f in has or (f == "pixels" and "categorical" in has))


class _Losses(Axis[Loss]):
    def add(self, value: object) -> None:
        """Bring a loss. Raises UsageError as ``Axis.add`` does, and if it has no form at all."""
        if isinstance(value, Loss) and not value.forms:
            raise UsageError(
                f"loss {type(value).__name__} has no form: write one of {', '.join(FORMS)}"
            )
        super().add(value)


LOSSES = _Losses("loss", Loss, FAMILIES)
