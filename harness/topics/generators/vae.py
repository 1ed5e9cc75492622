"""Variational autoencoder (note 93; Kingma & Welling 2014).

Shapes: B batch, C channels, H height, W width, Z latents, K importance samples, P outputs a value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from harness.axes.losses import pixels
from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell
from harness.topics.generators.base import GeneratorTopic, halvings
from harness.training.batches import Batches, Shuffled, WithNoise
from harness.training.topic import Batch, Networks, Player
from harness.training.transfers import onto

IMPORTANCE = 32
HELD_OUT = 1000  # images at most


class Encoder(nn.Module):
    """VAE encoder: images x_BCHW in -1..1 -> mean and log standard deviation of z, each (B, Z)."""

    def __init__(self, channels: int, size: int, features: int, latents: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, features, 3, padding=1), nn.SiLU()]
        for _ in range(halvings(size)):
            layers += [nn.Conv2d(features, features, 4, stride=2, padding=1), nn.SiLU()]
        side = size >> halvings(size)
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(features * side * side, 2 * latents)

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        mean_BZ, log_sd_BZ = self.head(self.body(x_BCHW)).chunk(2, dim=1)
        return mean_BZ, log_sd_BZ.clamp(-8, 4)


class Decoder(nn.Module):
    """VAE decoder: latents z_BZ -> outputs_BCHWP, as the pixels' loss takes them."""

    def __init__(self, channels: int, size: int, features: int, latents: int, width: int) -> None:
        super().__init__()
        side = size >> halvings(size)
        layers: list[nn.Module] = [
            nn.Linear(latents, features * side * side),
            nn.SiLU(),
            nn.Unflatten(1, (features, side, side)),
        ]
        for _ in range(halvings(size)):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(features, features, 3, padding=1)]
            layers += [nn.SiLU()]
        layers += [nn.Conv2d(features, features, 3, padding=1), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(features, channels * width, 1))
        self.channels = channels

    def forward(self, z_BZ: Tensor) -> Tensor:
        return self.body(z_BZ).unflatten(1, (self.channels, -1)).movedim(2, -1)


@dataclass(frozen=True)
class VAE(GeneratorTopic):
    """Topic that trains a variational autoencoder to generate images, on the evidence lower bound.

    Under kl and log_loss that loss stands for the pixels' likelihood in it. Under mse, mae, huber
    and hinge an image has one scale (``pixels.image_form``), so that the decoder is the textbook's
    of that noise: what it predicts is each pixel's location. Units are SiLUs (Elfwing et al. 2018),
    since ReLUs die where a schedule begins at the full rate, and the latents with them.
    """

    latents: int = 16
    features: int = 32

    name: ClassVar[str] = "vae"
    models: ClassVar[tuple[str, ...]] = ("vae",)
    populates: ClassVar[tuple[str, ...]] = ("vae",)
    recipe: ClassVar[tuple[str, str]] = ("ce", "one_cycle")
    directions: ClassVar[Mapping[str, str]] = {
        "fid": "min",
        "elbo": "max",
        "bits_per_dim": "min",
        "kid": "min",
        "precision": "max",
        "recall": "max",
    }
    budgets: ClassVar[Mapping[str, Budget]] = {
        "smoke": Budget(steps=20, batch_size=32, timeout_s=120, expected_s=4),
        "quick": Budget(steps=700, batch_size=64, timeout_s=300, expected_s=4, looks=5),
        "full": Budget(steps=2000, batch_size=64, timeout_s=14400, expected_s=200, looks=20),
    }

    def forms(self, model: str) -> tuple[str, ...]:
        return ("pixels",)

    def base_optimizer(self, model: str) -> OptimizerSpec:
        return OptimizerSpec("adam", lr=3e-3, adaptive_lr=1e-3)

    def networks(self, cell: Cell) -> dict[str, nn.Module]:
        shape = (*self.shape, self.features, self.latents)
        width = pixels.image_form(cell.loss, self.levels).width
        return {"encoder": Encoder(*shape), "decoder": Decoder(*shape, width)}

    def players(self, cell: Cell) -> list[Player]:
        form = pixels.image_form(cell.loss, self.levels)

        def objective(networks: Networks, batch: Batch) -> Tensor:
            """Return the pixels' loss plus KL(q(z|x) || N(0, 1)), in nats per image value."""
            level_BCHW = batch["level"]
            mean_BZ, log_sd_BZ = networks["encoder"](self._centred(level_BCHW))
            outputs = networks["decoder"](mean_BZ + log_sd_BZ.exp() * batch["noise"])
            kl_B = (mean_BZ.square() + (2 * log_sd_BZ).exp() - 1 - 2 * log_sd_BZ).sum(1) / 2
            return form.loss(outputs, level_BCHW).mean() + kl_B.mean() / level_BCHW[0].numel()

        both = ("encoder", "decoder")
        return [Player("model", both, objective, self.base_optimizer(cell.model))]

    def batches(
        self,
        cell: Cell,
        budget: Budget,
        networks: Networks,
        generator: torch.Generator,
        device: torch.device,
    ) -> Batches:
        level = pixels.to_levels(self.images.train_x, self.levels)
        rows = self.images.fold(cell.seed).train[: budget.samples]
        shuffled = Shuffled({"level": level}, generator, device, rows)
        return WithNoise(shuffled, {"noise": (self.latents,)})

    @torch.no_grad()
    def likelihood(self, networks: Networks, cell: Cell, x_NCHW: Tensor) -> dict[str, Any]:
        """Return elbo in nats per image, and bits_per_dim from the importance-weighted bound.

        Both over IMPORTANCE samples of z (Burda et al. 2016). They are bounds: the true likelihood
        of the held-out images is no worse.
        """
        form = pixels.image_form(cell.loss, self.levels)
        generator = torch.Generator().manual_seed(cell.seed)
        device = next(networks["encoder"].parameters()).device
        held_out = pixels.to_levels(x_NCHW[:HELD_OUT], self.levels)
        elbo = bound = torch.zeros((), dtype=torch.float64, device=device)
        for level_BCHW in held_out.split(128):
            level_BCHW = level_BCHW.to(device)
            mean_BZ, log_sd_BZ = networks["encoder"](self._centred(level_BCHW))
            # a check of their arguments makes a GPU wait
            posterior = Normal(mean_BZ, log_sd_BZ.exp(), validate_args=False)
            prior = Normal(0.0, 1.0, validate_args=False)
            draws = [torch.randn(mean_BZ.shape, generator=generator) for _ in range(IMPORTANCE)]
            weights = []
            for noise_BZ in onto(torch.stack(draws), device):
                z_BZ = mean_BZ + log_sd_BZ.exp() * noise_BZ
                nll_B = form.nll(networks["decoder"](z_BZ), level_BCHW).flatten(1).double().sum(1)
                gap_BZ = (prior.log_prob(z_BZ) - posterior.log_prob(z_BZ)).double()
                weights.append(gap_BZ.sum(1) - nll_B)
            weight_KB = torch.stack(weights)
            elbo = elbo + weight_KB.mean(0).sum()
            bound = bound + (weight_KB.logsumexp(0) - math.log(IMPORTANCE)).sum()
        values = held_out[0].numel()
        return {
            "elbo": elbo.item() / len(held_out),
            "bits_per_dim": -bound.item() / len(held_out) / values / math.log(2),
            "importance_samples": IMPORTANCE,
            "held_out": len(held_out),
        }

    def evaluate(self, networks: Networks, cell: Cell) -> dict[str, Any]:
        held_out = min(HELD_OUT, len(self.images.test_x))
        return super().evaluate(networks, cell) | self.simple_bits(held_out)

    @torch.no_grad()
    def sample(
        self, networks: Networks, cell: Cell, count: int, generator: torch.Generator
    ) -> Tensor:
        """Return images of the expected level of each pixel, for z drawn from the prior."""
        form = pixels.image_form(cell.loss, self.levels)
        device = next(networks["decoder"].parameters()).device
        parts = [
            form.mean(networks["decoder"](z_BZ))
            for z_BZ in torch.randn(count, self.latents, generator=generator).to(device).split(500)
        ]
        return pixels.to_images(torch.cat(parts), self.levels)

    def _centred(self, level: Tensor) -> Tensor:
        """Map levels to -1..1."""
        return 2 * level / (self.levels - 1) - 1
