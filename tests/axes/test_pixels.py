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
    form = pixels.form(family, levels)
    outputs = torch.randn(5, form.width, dtype=torch.float64)
    mass = form.log_mass(outputs).exp()
    assert mass.shape == (5, levels)
    torch.testing.assert_close(mass.sum(-1), torch.ones(5, dtype=torch.float64))
    level = torch.randint(levels, (5,))
    expected = -mass[torch.arange(5), level].log()
    torch.testing.assert_close(form.nll(outputs, level), expected)


@pytest.mark.parametrize(("family", "density"), [("mse", stats.norm), ("mae", stats.laplace)])
def test_the_implied_densities_are_scipys_on_the_levels(family, density):
    form = pixels.form(family, 17)
    location, log_scale = 0.2, -1.5
    scale = math.exp(log_scale)
    width = math.sqrt(scale / 2) if family == "mse" else scale
    value = torch.linspace(-1, 1, 17, dtype=torch.float64)
    expected = torch.from_numpy(density.pdf(value.numpy(), location, width))
    mass = form.log_mass(torch.tensor([location, log_scale], dtype=torch.float64)).exp()
    torch.testing.assert_close(mass, expected / expected.sum())


def test_drawing_follows_the_masses():
    form = pixels.form("ce", 4)
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
