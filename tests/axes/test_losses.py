"""Each form against PyTorch's, scikit-learn's or SciPy's own, or against a law."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics as sk
from torch.nn import functional as F

from harness.axes import losses
from harness.cell import UsageError

LOW, HIGH, BINS = -4.0, 4.0, 32
generator = torch.Generator().manual_seed(0)
OUT_NK = torch.randn(50, 5, generator=generator, dtype=torch.float64)
Y_N = torch.randint(5, (50,), generator=generator)
OUT_NW = torch.randn(50, BINS, generator=generator, dtype=torch.float64)
V_N = torch.randn(50, generator=generator, dtype=torch.float64)


def smoothed():
    return F.one_hot(Y_N, 5).double() * 0.9 + 0.1 / 5


def hinge_by_hand():
    rows = []
    for scores, y in zip(OUT_NK.numpy(), Y_N.numpy(), strict=True):
        rows.append(max(0.0, 1 + max(np.delete(scores, y)) - scores[y]))
    return np.mean(rows)


REFERENCES = {
    "mse": lambda: sk.brier_score_loss(Y_N, OUT_NK.softmax(-1), scale_by_half=False),
    "ce": lambda: sk.log_loss(Y_N, OUT_NK.softmax(-1)),
    "log_loss": lambda: sum(sk.log_loss(k == Y_N, OUT_NK[:, k].sigmoid()) for k in range(5)),
    "kl": lambda: F.kl_div(OUT_NK.log_softmax(-1), smoothed(), reduction="batchmean").item(),
    "hinge": hinge_by_hand,
    "huber": lambda: (
        F.huber_loss(OUT_NK.softmax(-1), F.one_hot(Y_N, 5).double(), delta=0.5).item() * 5
    ),
    "mae": lambda: 2 * (1 - OUT_NK.softmax(-1)[range(50), Y_N]).mean().item(),
}
NUMERIC = {
    "mse": lambda: sk.mean_squared_error(V_N, OUT_NW[:, 0]),
    "mae": lambda: sk.mean_absolute_error(V_N, OUT_NW[:, 0]),
    "huber": lambda: F.huber_loss(OUT_NW[:, 0], V_N, delta=1.0).item(),
    "hinge": lambda: np.maximum(0, np.abs(OUT_NW[:, 0].numpy() - V_N.numpy()) - 0.1).mean(),
    "ce": lambda: F.cross_entropy(OUT_NW, torch.from_numpy(soft_bins())).item(),
    "kl": lambda: F.kl_div(
        OUT_NW.log_softmax(-1), torch.from_numpy(soft_bins()), reduction="batchmean"
    ).item(),
}


def soft_bins():
    edges = np.linspace(LOW, HIGH, BINS + 1)
    mass = np.diff(norm.cdf(edges[None], V_N.numpy()[:, None], 0.75 * (HIGH - LOW) / BINS))
    return mass / mass.sum(-1, keepdims=True)


@pytest.mark.parametrize("family", losses.FAMILIES)
def test_categorical_against_its_reference(family):
    got = losses.categorical(family, 5).loss(OUT_NK, Y_N).mean().item()
    assert got == pytest.approx(REFERENCES[family](), rel=1e-9)


@pytest.mark.parametrize("family", NUMERIC)
def test_numeric_against_its_reference(family):
    form = losses.numeric(family, LOW, HIGH, BINS)
    assert form.loss(OUT_NW[:, : form.width], V_N).mean().item() == pytest.approx(
        NUMERIC[family](), rel=1e-6
    )


def test_ordinal_is_a_bernoulli_per_threshold():
    form = losses.numeric("log_loss", 0, 4, 4)
    outputs = torch.tensor([[0.3, -0.2, 1.0, 0.5]], dtype=torch.float64)
    p = outputs.sigmoid()[0]
    by_hand = -(p[0].log() + p[1].log() + (1 - p[2]).log() + (1 - p[3]).log())
    assert form.loss(outputs, torch.tensor([2.0]).double()).item() == pytest.approx(by_hand.item())


@pytest.mark.parametrize("form", [losses.categorical, losses.numeric])
def test_ce_and_kl_with_one_target_have_the_same_gradient(form):
    # the categorical kl has a smoothed target: its ce partner is PyTorch's with label_smoothing
    if form is losses.categorical:
        ce = lambda o: F.cross_entropy(o, Y_N, label_smoothing=0.1)  # noqa: E731
        kl = lambda o: form("kl", 5).loss(o, Y_N).mean()  # noqa: E731
        outputs = OUT_NK.clone().requires_grad_()
    else:
        ce, kl = (lambda o, f=f: form(f, LOW, HIGH, BINS).loss(o, V_N).mean() for f in ("ce", "kl"))
        outputs = OUT_NW.clone().requires_grad_()
    gradients = [torch.autograd.grad(f(outputs), outputs)[0] for f in (ce, kl)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("family", losses.FAMILIES)
@settings(max_examples=10)
@given(target=st.floats(-3, 3))
def test_training_a_numeric_form_on_one_value_decodes_to_it(family, target):
    form = losses.numeric(family, LOW, HIGH, BINS)
    outputs = torch.zeros(1, form.width, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([outputs], lr=0.2)
    value = torch.tensor([target], dtype=torch.float64)
    for step in range(150):
        for group in adam.param_groups:
            group["lr"] = 0.2 * (1 - step / 150)
        adam.zero_grad()
        form.loss(outputs, value).mean().backward()
        adam.step()
    assert form.decode(outputs).item() == pytest.approx(target, abs=0.13)


@pytest.mark.parametrize("family", losses.FAMILIES)
def test_probabilities_sum_to_one_and_keep_the_order(family):
    probabilities = losses.categorical(family, 5).decode(OUT_NK)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(50).double())
    assert (probabilities.argmax(-1) == OUT_NK.argmax(-1)).all()


@pytest.mark.parametrize("family", losses.FAMILIES)
def test_vmap_equals_a_loop(family):
    form = losses.categorical(family, 5)
    outputs, target = OUT_NK.view(5, 10, 5), Y_N.view(5, 10)
    looped = torch.stack([form.loss(o, t) for o, t in zip(outputs, target, strict=True)])
    torch.testing.assert_close(torch.vmap(form.loss)(outputs, target), looped)


def test_an_unknown_family_is_named():
    for make in (lambda: losses.categorical("hubr", 2), lambda: losses.numeric("hubr", 0, 1)):
        with pytest.raises(UsageError, match="unknown loss 'hubr': choose from huber"):
            make()
