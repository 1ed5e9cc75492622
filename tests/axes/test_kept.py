"""A loss of one's own gives a loss per sample and probabilities, or is refused in one line."""

import pytest
import torch
from brought import Focal
from torch import nn
from torch.func import vmap
from torch.nn import functional as F

from harness.axes import losses
from harness.axes.losses import FAMILIES, LOSSES, Form, Loss, PixelForm, kept, pixels
from harness.cell import UsageError
from harness.conformance.fake_gpu import fake_gpu
from harness.conformance.finding import line_of

OUTPUTS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])
TARGET = torch.tensor([0, 2])


def each(outputs, target):
    return F.cross_entropy(outputs, target, reduction="none")


def softmax(outputs):
    return outputs.softmax(-1)


def classes(loss=each, decode=softmax):
    return kept.classes("mine", Form("mine", 1, loss, decode))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_one_number_for_all_samples_is_refused(reduction):
    form = classes(lambda outputs, target: F.cross_entropy(outputs, target, reduction=reduction))
    with pytest.raises(UsageError) as error:
        form.loss(OUTPUTS, TARGET)
    assert str(error.value) == (
        "loss mine gives shape () for outputs of shape (2, 3): a loss per sample, of shape (2,) "
        "is needed"
    )


def test_a_loss_or_value_for_each_pair_of_samples_is_refused():
    form = Form("mine", 1, lambda outputs, target: (outputs - target).square(), lambda o: o)
    form = kept.numbers("mine", form)
    with pytest.raises(UsageError, match=r"^loss mine gives shape \(4, 4\) for outputs of shape"):
        form.loss(torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(
        UsageError, match=r"its decode gives shape \(4, 1\) for .* \(4,\) is needed"
    ):
        form.decode(torch.zeros(4, 1))


@pytest.mark.parametrize(
    ("decode", "told"),
    [
        (lambda outputs: outputs, "gives values from -1 that sum to 1.5 for a sample"),
        (lambda outputs: outputs.sigmoid(), "gives values from 0.269 that sum to 1.77 for a"),
        (lambda outputs: outputs / outputs.sum(-1, keepdim=True), "gives values from -0.667 that"),
        (lambda outputs: outputs.argmax(-1), r"gives shape \(2,\) for outputs of shape \(2, 3\)"),
    ],
)
def test_what_are_no_probabilities_is_refused(decode, told):
    with pytest.raises(UsageError, match=f"^loss mine: its decode {told}") as error:
        classes(decode=decode).decode(OUTPUTS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "decode",
    [
        lambda outputs: outputs.bfloat16().softmax(-1),
        lambda outputs: F.one_hot(outputs.argmax(-1), 3),
        lambda outputs: outputs.softmax(-1) * torch.nan,
    ],
)
def test_rounding_choices_and_a_diverged_network_are_no_fault(decode):
    classes(decode=decode).decode(OUTPUTS)


def test_probabilities_are_looked_at_once_where_there_are_numbers():
    form = classes(decode=lambda outputs: outputs)
    vmap(form.decode)(OUTPUTS[None])
    form.decode(OUTPUTS)
    with fake_gpu() as gpu:
        found = classes(decode=lambda outputs: outputs).decode(torch.zeros(2, 3).to(gpu))
    assert found.shape == (2, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_built_in_keeps_it(family):
    form = losses.categorical(family, 3)
    form = kept.classes(family, form)
    assert form.loss(OUTPUTS, TARGET).shape == form.decode(OUTPUTS).shape[:1]
    form = kept.numbers(family, losses.numeric(family, -4, 4))
    outputs = torch.randn(5, form.width)
    assert form.loss(outputs, torch.randn(5)).shape == form.decode(outputs).shape
    form = kept.levels(family, pixels.pixel_form(family, 17))
    outputs = torch.randn(5, form.width)
    assert form.nll(outputs, torch.arange(5)).shape == form.loss(outputs, torch.arange(5)).shape


class Careless(Loss):
    name = "careless"

    def categorical(self, classes):
        return Form("careless", 1, F.cross_entropy, nn.Identity())

    def numeric(self, low, high, bins, *, epsilon, delta):
        return F.mse_loss

    def pixels(self, levels):
        return PixelForm(levels, each, lambda outputs: outputs)


def test_one_s_own_are_held_to_it_wherever_they_are_asked_for(monkeypatch):
    monkeypatch.setitem(LOSSES.own, "careless", Careless())
    form = losses.categorical("careless", 3)
    for call in (lambda: form.loss(OUTPUTS, TARGET), lambda: form.decode(OUTPUTS)):
        with pytest.raises(UsageError, match="^loss careless"):
            call()
    with pytest.raises(UsageError, match="numeric returned a function, a harness.Form is needed"):
        losses.numeric("careless", -1, 1)
    with pytest.raises(UsageError, match="^loss careless: exp of its log_mass gives values from"):
        pixels.pixel_form("careless", 3).nll(OUTPUTS, TARGET)


def test_a_loss_s_line_is_still_the_project_s(monkeypatch):
    monkeypatch.setitem(LOSSES.own, "focal", Focal())
    form = losses.categorical("focal", 3)

    def objective():
        return form

    code = objective.__code__.replace(co_filename=losses.__file__)
    objective.__code__ = code
    assert line_of(objective).startswith("brought.py:")
