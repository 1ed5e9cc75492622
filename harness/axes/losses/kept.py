"""Hold a loss of one's own to what a form promises: a loss per sample, and probabilities."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from harness.axes.losses.forms import Form, PixelForm
from harness.cell import UsageError

ROUNDING = 1e-3  # of a row's sum, at least
F = TypeVar("F", Form, PixelForm)


def classes(name: str, form: object) -> Form:
    """Return a loss's form for classes, whose functions raise UsageError for what is none of it."""
    form = _of_kind(name, "categorical", form, Form)

    @functools.wraps(form.decode, (), ())
    def decode(outputs_NK: Tensor) -> Tensor:
        found = form.decode(outputs_NK)
        _refuse_shape(f"loss {name}: its decode", found, outputs_NK, outputs_NK.shape, "the same")
        return probabilities(found)

    probabilities = _judging(f"loss {name}: its decode", "outputs.softmax(-1)")
    return replace(_with_losses(name, form), decode=decode)


def numbers(name: str, form: object) -> Form:
    """Return a loss's form for numbers, whose functions raise UsageError for other shapes."""
    form = _of_kind(name, "numeric", form, Form)

    @functools.wraps(form.decode, (), ())
    def decode(outputs_NW: Tensor) -> Tensor:
        found, shape = form.decode(outputs_NW), outputs_NW.shape[:-1]
        _refuse_shape(f"loss {name}: its decode", found, outputs_NW, shape, "a value each,")
        return found

    return replace(_with_losses(name, form), decode=decode)


def levels(name: str, form: object) -> PixelForm:
    """Return a loss's form for pixels, whose functions raise UsageError for what is none of it."""
    form = _of_kind(name, "pixels", form, PixelForm)

    @functools.wraps(form.log_mass, (), ())
    def log_mass(outputs_NW: Tensor) -> Tensor:
        found = form.log_mass(outputs_NW)
        probabilities(found.exp())
        return found

    probabilities = _judging(f"loss {name}: exp of its log_mass", "outputs.log_softmax(-1)")
    return replace(_with_losses(name, form), log_mass=log_mass)


def _of_kind(name: str, method: str, form: object, kind: type[F]) -> F:
    """Return a form. Raises UsageError if it is of another kind."""
    if not isinstance(form, kind):
        raise UsageError(
            f"loss {name}: {method} returned a {type(form).__name__}, "
            f"a harness.{kind.__name__} is needed"
        )
    return form


def _with_losses(name: str, form: F) -> F:
    """Return a form that gives a loss per sample, and nothing else."""

    @functools.wraps(form.loss, (), ())
    def loss(outputs_NW: Tensor, target_N: Tensor) -> Tensor:
        found, shape = form.loss(outputs_NW, target_N), outputs_NW.shape[:-1]
        _refuse_shape(f"loss {name}", found, outputs_NW, shape, "a loss per sample,")
        return found

    return replace(form, loss=loss)


def _refuse_shape(
    what: str, found: object, outputs: Tensor, shape: torch.Size, needed: str
) -> None:
    """Raise UsageError, as ``what``, for what is made of outputs if it has another shape."""
    if isinstance(found, Tensor) and found.shape == shape:
        return
    told = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
    raise UsageError(
        f"{what} gives {told} for outputs of shape {tuple(outputs.shape)}: "
        f"{needed} of shape {tuple(shape)} is needed"
    )


def _judging(what: str, instead: str) -> Callable[[Tensor], Tensor]:
    """Return a function that returns its argument, of which the first is to be probabilities.

    It raises UsageError if they are none. Later ones are not looked at: a GPU would have to wait.
    """
    judged = False

    def probabilities(found_NK: Tensor) -> Tensor:
        nonlocal judged
        if not judged:
            judged = True
            _refuse_improbable(what, instead, found_NK.detach())
        return found_NK

    return probabilities


def _refuse_improbable(what: str, instead: str, found_NK: Tensor) -> None:
    """Raise UsageError, as ``what``, for a row with values below 0 or another sum than 1.

    Rows with NaN, which diverged networks give, are passed over.
    """
    if not found_NK.is_floating_point():
        found_NK = found_NK.double()
    rounding = max(ROUNDING, torch.finfo(found_NK.dtype).eps ** 0.5)
    least, total = found_NK.amin(-1).flatten(), found_NK.sum(-1).flatten()
    wrong = (least < -rounding) | ((total - 1).abs() > rounding)
    try:
        if not wrong.any():
            return
    except RuntimeError:  # no numbers are seen within vmap, or of a simulated GPU
        return
    row = int(wrong.nonzero()[0])
    raise UsageError(
        f"{what} gives values from {least[row]:.3g} that sum to {total[row]:.3g} for a sample: "
        f"probabilities are needed, such as {instead}"
    )
