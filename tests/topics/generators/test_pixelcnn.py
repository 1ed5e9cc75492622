"""PixelCNN sees only what comes before, and samples what it computes."""

import pytest
import torch

from harness.axes.losses import pixels
from harness.topics.generators.pixelcnn import PixelCNN


@pytest.mark.parametrize("channels", [1, 3])
def test_no_output_depends_on_its_own_or_a_later_pixel(channels):
    torch.manual_seed(0)
    network = PixelCNN(channels, 2, 8, 3).double()
    x = torch.randn(1, channels, 5, 6, dtype=torch.float64, requires_grad=True)
    outputs = network(x)
    sees_the_first = 0
    for c in range(channels):
        for i in range(5):
            for j in range(6):
                (gradient,) = torch.autograd.grad(outputs[0, c, i, j].sum(), x, retain_graph=True)
                order = gradient[0].permute(1, 2, 0).flatten()  # pixel by pixel, then channels
                place = (i * 6 + j) * channels + c
                assert not order[place:].any()
                sees_the_first += bool(order[0])
    assert sees_the_first > 10


@pytest.mark.parametrize("channels", [1, 3])
def test_cached_sampling_equals_sampling_from_scratch(channels):
    torch.manual_seed(0)
    network, form = PixelCNN(channels, 17, 8, 3).double(), pixels.pixel_form("ce", 17)
    uniform = torch.rand(3, channels, 6, 5, dtype=torch.float64)
    cached = network.sample(form, uniform, 17)
    scratch = torch.zeros_like(cached)
    with torch.no_grad():
        for i in range(6):
            for j in range(5):
                for c in range(channels):
                    outputs = network(2 * scratch.double() / 16 - 1)[:, c, i, j]
                    scratch[:, c, i, j] = form.draw(outputs, uniform[:, c, i, j])
    assert torch.equal(cached, scratch)
