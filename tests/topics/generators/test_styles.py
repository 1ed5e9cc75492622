"""Digits in styles, and the network that tells them apart."""

import pytest
import torch

from harness.topics import datasets
from harness.topics.generators import styles
from harness.topics.generators.style_gan import StyleGAN


@pytest.mark.parametrize("style", styles.STYLES, ids=lambda style: style.name)
def test_a_style_paints_paper_and_ink(style):
    blank = styles.render(torch.zeros(1, 1, 8, 8), style)
    torch.testing.assert_close(blank, torch.tensor(style.paper).view(1, 3, 1, 1).expand(1, 3, 8, 8))
    full = styles.render(torch.ones(1, 1, 8, 8), style)
    torch.testing.assert_close(full[0, :, 0, 0], torch.tensor(style.ink))


def test_styles_net_reads_held_out_digits_in_every_style():
    split = datasets.images("digits")
    content = StyleGAN()._content(split.test_x)
    for number, style in enumerate(styles.STYLES):
        image = (styles.render(content, style) * 255).round().to(torch.uint8)
        judge = styles.network()
        assert (judge.classify(image).argmax(1) == split.test_y).double().mean() > 0.98
        assert (judge.classify_style(image).argmax(1) == number).double().mean() > 0.98
