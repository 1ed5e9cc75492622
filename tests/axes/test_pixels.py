"""The loss families as densities over a pixel's levels."""

import math

import pytest
import torch
from scipy import stats

from harness.axes import losses
from harness.axes.losses import pixels
from harness.topics import datasets


@pytest.mark.parametrize("family", losses.FAMILIES)
@pytest.mark.parametrize("levels", [17, 256])
def test_every_family_is_a_density_over_the_levels(family, levels):
    form = pixels.pixel_form(family, levels)
    outputs = torch.randn(5, form.width, dtype=torch.float64)
    mass = form.log_mass(outputs).exp()
    assert mass.shape == (5, levels)
    torch.testing.assert_close(mass.sum(-1), torch.ones(5, dtype=torch.float64))
    level = torch.randint(levels, (5,))
    expected = -mass[torch.arange(5), level].log()
    torch.testing.assert_close(form.nll(outputs, level), expected)


@pytest.mark.parametrize(("family", "density"), [("mse", stats.norm), ("mae", stats.laplace)])
def test_the_implied_densities_are_scipys_on_the_levels(family, density):
    form = pixels.pixel_form(family, 17)
    location, log_scale = 0.2, -1.5
    scale = math.exp(log_scale)
    width = math.sqrt(scale / 2) if family == "mse" else scale
    value = torch.linspace(-1, 1, 17, dtype=torch.float64)
    expected = torch.from_numpy(density.pdf(value.numpy(), location, width))
    mass = form.log_mass(torch.tensor([location, log_scale], dtype=torch.float64)).exp()
    torch.testing.assert_close(mass, expected / expected.sum())


NUMERIC = [family for family in losses.FAMILIES if family not in pixels.CATEGORICAL]


@pytest.mark.parametrize("family", NUMERIC)
def test_an_image_s_location_is_called_back_from_outside_of_the_levels(family):
    """Each dark pixel may get there in the first steps; over the levels alone it would stay."""
    outputs = torch.zeros(1, 1, 8, 8, 2, dtype=torch.float64)
    outputs[..., 0] = -1.5
    outputs.requires_grad_()
    level = torch.full((1, 1, 8, 8), 8)
    pixels.image_form(family, 17).loss(outputs, level).sum().backward()
    assert (outputs.grad[..., 0] < -0.01).all()


@pytest.mark.parametrize("family", ["mae", "hinge", "huber"])
@pytest.mark.parametrize("location", [-20.0, -1.5, 1.5, 20.0])
def test_a_location_outside_has_no_slope_over_the_levels_and_comes_back_all_the_same(
    family, location
):
    outputs = torch.tensor([[location, 0.0]], dtype=torch.float64, requires_grad=True)
    form, level = pixels.pixel_form(family, 17), torch.tensor([8])
    (slope,) = torch.autograd.grad(form.nll(outputs, level).sum(), outputs)
    assert abs(slope[0, 0].item()) < 1e-12
    form.loss(outputs, level).sum().backward()
    assert outputs.grad[0, 0].item() == pytest.approx(math.copysign(1.0, location))


@pytest.mark.parametrize("family", NUMERIC)
@pytest.mark.parametrize("log_scale", [-20.0, 9.0])
def test_a_scale_beyond_all_effect_comes_back(family, log_scale):
    outputs = torch.tensor([[0.0, log_scale]], dtype=torch.float64, requires_grad=True)
    pixels.pixel_form(family, 17).loss(outputs, torch.tensor([8])).sum().backward()
    assert outputs.grad[0, 1].item() == pytest.approx(math.copysign(1.0, log_scale))


@pytest.mark.parametrize("family", NUMERIC)
def test_a_pixel_s_loss_is_its_nll_where_location_and_scale_have_effect(family):
    outputs = torch.randn(500, 2, dtype=torch.float64).clamp(-1, 1)
    level, form = torch.randint(17, (500,)), pixels.pixel_form(family, 17)
    assert torch.equal(form.loss(outputs, level), form.nll(outputs, level))
    far = outputs + torch.tensor([9.0, 0.0])
    assert (form.loss(far, level) >= form.nll(far, level)).all()


@pytest.mark.parametrize("family", NUMERIC)
def test_an_image_has_one_scale_and_its_loss_bounds_its_nll(family):
    form = pixels.image_form(family, 17)
    outputs = torch.randn(3, 1, 8, 8, 2, dtype=torch.float64)
    level = torch.randint(17, (3, 1, 8, 8))
    even = outputs.clone()
    even[..., 1] = outputs[..., 1].mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(form.loss(outputs, level), form.loss(even, level))
    torch.testing.assert_close(
        form.nll(outputs, level), pixels.pixel_form(family, 17).nll(even, level)
    )
    assert (form.loss(outputs, level) >= form.nll(outputs, level)).all()
    mass = form.log_mass(outputs).exp()
    torch.testing.assert_close(mass.sum(-1), torch.ones_like(mass[..., 0]))


@pytest.mark.parametrize("family", pixels.CATEGORICAL)
def test_an_image_s_categorical_losses_are_those_of_its_pixels(family):
    outputs, level = torch.randn(2, 1, 4, 4, 17), torch.randint(17, (2, 1, 4, 4))
    one, other = (make(family, 17) for make in (pixels.pixel_form, pixels.image_form))
    assert torch.equal(one.loss(outputs, level), other.loss(outputs, level))


def test_drawing_follows_the_masses():
    form = pixels.pixel_form("ce", 4)
    outputs = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    uniform = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64)
    drawn = form.draw(outputs.expand(1000, 4), uniform)
    assert drawn.bincount().tolist() == [100, 200, 300, 400]


def test_levels_and_images_come_back():
    x = datasets.images("digits").train_x[:50]
    assert torch.equal(pixels.to_images(pixels.to_levels(x, 17), 17), x)


def test_reference_models_in_bits():
    uniform = torch.arange(17).repeat(100)[:, None, None, None]
    assert pixels.histogram_bits(uniform, uniform, 17) == pytest.approx(math.log2(17), rel=1e-3)
    train = torch.full((10, 1, 1, 1), 8)
    mass = stats.norm.cdf(1.0) - stats.norm.cdf(-1.0)  # half a level is one deviation
    assert pixels.gaussian_bits(train, train[:1], 17) == pytest.approx(-math.log2(mass))
