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
        OUT_NW.log_softmax(-1), torch.from_numpy(projected()), reduction="batchmean"
    ).item(),
}


def soft_bins():
    edges = np.linspace(LOW, HIGH, BINS + 1)
    mass = np.diff(norm.cdf(edges[None], V_N.numpy()[:, None], 0.75 * (HIGH - LOW) / BINS))
    return mass / mass.sum(-1, keepdims=True)


def projected():
    """Single values on 32 atoms by algorithm 1 of Bellemare et al. (2017), without discount."""
    mass = np.zeros((len(V_N), BINS))
    for row, value in zip(mass, V_N.numpy(), strict=True):
        b = (np.clip(value, LOW, HIGH) - LOW) / ((HIGH - LOW) / (BINS - 1))
        lower, upper = int(np.floor(b)), int(np.ceil(b))
        row[lower] += upper - b
        row[upper] += b - lower
    return mass


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


def test_hinge_and_huber_measure_errors_in_the_targets_unit():
    outputs, target = torch.tensor([[0.0], [0.0]]), torch.tensor([0.5, 40.0])
    hinge = losses.numeric("hinge", 0, 100, epsilon=0.1).loss(outputs, target)
    torch.testing.assert_close(hinge, torch.tensor([0.4, 39.9]))
    huber = losses.numeric("huber", 0, 100, delta=1).loss(outputs, target)
    torch.testing.assert_close(huber, torch.tensor([0.125, 39.5]))


def test_categorical_kl_is_cross_entropy_with_smoothed_labels_but_for_a_constant():
    outputs = OUT_NK.clone().requires_grad_()
    smoothed = F.cross_entropy(outputs, Y_N, label_smoothing=0.1)
    kl = losses.categorical("kl", 5).loss(outputs, Y_N).mean()
    gradients = [torch.autograd.grad(loss, outputs)[0] for loss in (smoothed, kl)]
    torch.testing.assert_close(*gradients)


def test_numeric_kl_at_its_target_is_zero_and_decodes_to_it_also_at_the_ends():
    form = losses.numeric("kl", 0, 10, 11)
    value = torch.tensor([0.0, 3.25, 10.0], dtype=torch.float64)
    outputs = torch.full((3, 11), -1e3, dtype=torch.float64)
    outputs[0, 0] = outputs[2, 10] = 0
    outputs[1, 3:5] = torch.tensor([0.75, 0.25]).log()
    torch.testing.assert_close(form.loss(outputs, value), torch.zeros(3).double())
    torch.testing.assert_close(form.decode(outputs), value)


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
