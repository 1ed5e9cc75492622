"""Train styles-net, which judges style_gan, once: ``python experiments/train_styles.py``.

Seeded and on one thread: the same machine and torch give the same file. Prints the accuracies on
the held-out digits and the SHA-256 that belongs into ``harness/topics/generators/styles.py``.
"""

from __future__ import annotations

import hashlib
import io

import torch
from torch import Tensor
from torch.nn import functional as F
from train_extractor import augment

from harness.files import write_atomically
from harness.topics.datasets import images
from harness.topics.generators import styles

SEED = 93
EPOCHS = 40
BATCH = 64
SIZES = (16, 28, 32)  # styles are drawn at these; the network sees 32


def styled(x_B1HW: Tensor, style_B: Tensor, size: int) -> Tensor:
    """Return uint8 images (B, 3, size, size) of grey ones in 0..1, each drawn in its style."""
    x_B1HW = F.interpolate(x_B1HW, (size, size), mode="bilinear", antialias=True)
    return (styles.render_each(x_B1HW, style_B) * 255).round().to(torch.uint8)


def train() -> styles.StylesNet:
    """Train styles-net on augmented digits in every style, and scale its features."""
    split = images("digits")
    x, y = split.train_x.float() / 255, split.train_y
    x = F.interpolate(x, (32, 32), mode="bilinear")
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    network = styles.StylesNet()
    steps = EPOCHS * (len(x) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for step in range(steps):
        index = torch.randint(len(x), (BATCH,), generator=generator)
        style_B = torch.randint(len(styles.STYLES), (BATCH,), generator=generator)
        seen = styled(augment(x[index], generator), style_B, SIZES[step % len(SIZES)])
        features = network(seen).relu()
        loss = F.cross_entropy(network.head(features), y[index], label_smoothing=0.1)
        loss = loss + F.cross_entropy(network.style_head(features), style_B, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():  # features of mean square 1, as KID's kernel wants; the logits stay
        style_N = torch.arange(len(x)) % len(styles.STYLES)
        scale = network(styled(x, style_N, 16)).square().mean().sqrt()
        for tensor in network.body[-1].parameters():
            tensor /= scale
        network.head.weight *= scale
        network.style_head.weight *= scale
    return network


@torch.no_grad()
def main() -> None:
    """Train styles-net, write its weights as float16, and print their accuracies and SHA-256."""
    torch.set_num_threads(1)
    with torch.enable_grad():
        trained = train()
    state = {n: v.half() if v.is_floating_point() else v for n, v in trained.state_dict().items()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(styles.WEIGHTS, buffer.getvalue())
    network = styles.StylesNet().eval()
    network.load_state_dict(torch.load(styles.WEIGHTS, weights_only=True))
    split = images("digits")
    for size in SIZES:
        for number, style in enumerate(styles.STYLES):
            style_N = torch.full((len(split.test_y),), number)
            seen = styled(split.test_x.float() / 255, style_N, size)
            digit = (network.classify(seen).argmax(1) == split.test_y).double().mean()
            right = (network.classify_style(seen).argmax(1) == number).double().mean()
            print(f"{style.name} at {size}: digit {digit:.4f}, style {right:.4f}")
    print(f'WEIGHTS_SHA256 = "{hashlib.sha256(buffer.getvalue()).hexdigest()}"')


if __name__ == "__main__":
    main()
