"""Train digits-net, the FID extractor, once: ``python experiments/train_extractor.py``.

Seeded and on one thread: the same machine and torch give the same file. Prints the accuracy on the
held-out digits and the SHA-256 that belongs into
``harness/topics/generators/feature_extractor.py``. A new file makes FIDs incomparable with those of
the old one.
"""

from __future__ import annotations

import hashlib
import io
import math
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.files import write_atomically
from harness.topics.datasets import images
from harness.topics.generators.feature_extractor import WEIGHTS, DigitsNet, prepare

SEED = 91
EPOCHS = 60
BATCH = 64


def augment(x_B1HW: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, shear, shift, shrink and re-ink digits (B, 1, H, W), as MNIST's differ from these."""
    b = len(x_B1HW)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(b, generator=generator) * (high - low) + low

    angle, shear = uniform(-15, 15) * math.pi / 180, uniform(-0.25, 0.25)
    wide, high = uniform(0.9, 1.7), uniform(0.9, 1.5)  # 1 / scale: a margin where over 1
    rows = [
        torch.stack([angle.cos() * wide, shear - angle.sin() * high, uniform(-0.2, 0.2)], -1),
        torch.stack([angle.sin() * wide, angle.cos() * high, uniform(-0.2, 0.2)], -1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(x_B1HW.shape), align_corners=False)
    moved = F.grid_sample(x_B1HW, grid, align_corners=False)
    gain, threshold = uniform(1, 5).view(-1, 1, 1, 1), uniform(0.35, 0.65).view(-1, 1, 1, 1)
    sharpened = ((moved - threshold) * gain + threshold).clamp(0, 1)
    plain = (torch.rand(b, generator=generator) < 0.25).view(-1, 1, 1, 1)
    return torch.where(plain, x_B1HW, sharpened)


def train() -> DigitsNet:
    """Train digits-net on augmented digits, and scale its features to a mean square of 1."""
    split = images("digits")
    x, y = prepare(split.train_x), split.train_y
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    network = DigitsNet()
    steps = EPOCHS * (len(x) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(x), generator=generator)
        for index in order.split(BATCH)[: len(x) // BATCH]:
            logits = network.head(network.body(augment(x[index], generator)).relu())
            loss = F.cross_entropy(logits, y[index], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():  # features of mean square 1, as KID's kernel wants; the logits stay
        scale = network(split.train_x).square().mean().sqrt()
        for tensor in network.body[-1].parameters():
            tensor /= scale
        network.head.weight *= scale
    return network


def main(path: Path = WEIGHTS) -> None:
    """Train digits-net, write its weights as float16, and print their accuracy and SHA-256."""
    torch.set_num_threads(1)
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in train().state_dict().items()
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())
    network = DigitsNet().eval()
    network.load_state_dict(torch.load(path, weights_only=True))
    split = images("digits")
    with torch.no_grad():
        accuracy = (network.classify(split.test_x).argmax(1) == split.test_y).double().mean()
    print(f"{path}: {len(buffer.getvalue())} bytes, held-out accuracy {accuracy:.4f}")
    print(f'WEIGHTS_SHA256 = "{hashlib.sha256(buffer.getvalue()).hexdigest()}"')


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
