"""Generative adversarial networks (notes 91 and 93): DCGAN, and WGAN-GP as a bonus.

Shapes: B batch, C channels, H height, W width, Z latents. Normalisation is by group, not
by batch, so that a sample's result does not depend on its shard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from harness.axes import parallel
from harness.axes.losses import adversarial, pixels
from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell
from harness.topics.generators.base import GeneratorTopic, halvings
from harness.training.batches import Batches, Shuffled, WithNoise
from harness.training.topic import Batch, Networks, Player

PENALTY = 10.0  # of the gradient (Gulrajani et al. 2017)
CRITIC_STEPS = 5  # a generator step (the same)


class Generator(nn.Sequential):
    """DCGAN generator: latents z_BZ -> images x_BCHW in -1..1."""

    def __init__(self, channels: int, size: int, features: int, latents: int) -> None:
        side = size >> halvings(size)
        layers: list[nn.Module] = [
            nn.Linear(latents, 2 * features * side * side),
            nn.Unflatten(1, (2 * features, side, side)),
            nn.GroupNorm(8, 2 * features),
            nn.ReLU(),
        ]
        inputs = 2 * features
        for _ in range(halvings(size)):
            layers += [nn.ConvTranspose2d(inputs, features, 4, stride=2, padding=1)]
            layers += [nn.GroupNorm(8, features), nn.ReLU()]
            inputs = features
        super().__init__(*layers, nn.Conv2d(inputs, channels, 3, padding=1), nn.Tanh())


class Discriminator(nn.Sequential):
    """DCGAN discriminator: images x_BCHW -> score_B, which is higher for real ones."""

    def __init__(self, channels: int, size: int, features: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels, features, 3, padding=1), nn.LeakyReLU(0.2)]
        inputs = features
        for _ in range(halvings(size)):
            layers += [nn.Conv2d(inputs, 2 * features, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            inputs = 2 * features
        side = size >> halvings(size)
        super().__init__(*layers, nn.Flatten(), nn.Linear(inputs * side * side, 1), nn.Flatten(0))


@dataclass(frozen=True)
class GAN(GeneratorTopic):
    """Topic that trains a GAN to generate images; at each step the discriminator moves first.

    wgan_gp's moves five times: its steps, as all, are the generator's.
    """

    latents: int = 32
    features: int = 32

    name: ClassVar[str] = "gan"
    models: ClassVar[tuple[str, ...]] = ("dcgan", "wgan_gp")
    populates: ClassVar[tuple[str, ...]] = ("dcgan", "wgan_gp")
    agrees: ClassVar[int] = 2
    loss_falls: ClassVar[bool] = False
    recipe: ClassVar[tuple[str, str]] = ("hinge", "constant")
    directions: ClassVar[Mapping[str, str]] = {
        "fid": "min",
        "kid": "min",
        "precision": "max",
        "recall": "max",
    }
    budgets: ClassVar[Mapping[str, Budget]] = {
        "smoke": Budget(steps=20, batch_size=32, timeout_s=120, expected_s=4),
        "quick": Budget(steps=700, batch_size=32, timeout_s=300, expected_s=6, looks=5),
        "full": Budget(steps=5000, batch_size=64, timeout_s=14400, expected_s=300, looks=20),
    }
    # a step costs several of dcgan's
    wgan_budgets: ClassVar[Mapping[str, Budget]] = {
        "smoke": Budget(steps=10, batch_size=32, timeout_s=120, expected_s=5),
        "quick": Budget(steps=300, batch_size=64, timeout_s=300, expected_s=20, looks=5),
        "full": Budget(steps=2000, batch_size=64, timeout_s=14400, expected_s=500, looks=20),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse_remainder("features", 8)  # the groups of its GroupNorms

    def budget(self, profile: str, model: str) -> Budget:
        return (self.wgan_budgets if model == "wgan_gp" else self.budgets)[profile]

    def skip(self, cell: Cell) -> str | None:
        if cell.model == "wgan_gp" and cell.loss != self.recipe[0]:
            return f"wgan_gp's loss is its own (Wasserstein): it runs once, under {self.recipe[0]}"
        if cell.model == "wgan_gp" and parallel.is_sharded(cell.parallel):
            return "wgan_gp's penalty differentiates a gradient, which FSDP2's hooks do not allow"
        if cell.model == "wgan_gp" and cell.precision == "compiled":
            return "wgan_gp's penalty differentiates a gradient, which torch.compile does not allow"
        return None

    def forms(self, model: str) -> tuple[str, ...]:
        return () if model == "wgan_gp" else ("adversarial",)

    def base_optimizer(self, model: str) -> OptimizerSpec:
        if model == "wgan_gp":
            return OptimizerSpec("adam", lr=1e-4, adaptive_lr=1e-4, betas=(0.0, 0.9))
        return OptimizerSpec("adam", lr=1e-3, adaptive_lr=5e-4, betas=(0.5, 0.99))

    def networks(self, cell: Cell) -> dict[str, nn.Module]:
        return {
            "generator": Generator(*self.shape, self.features, self.latents),
            "discriminator": Discriminator(*self.shape, self.features),
        }

    def players(self, cell: Cell) -> list[Player]:
        wasserstein = cell.model == "wgan_gp"
        losses = adversarial.WASSERSTEIN if wasserstein else adversarial.adversarial_loss(cell.loss)

        def discriminator_loss(networks: Networks, batch: Batch) -> Tensor:
            with torch.no_grad():
                fake_BCHW = networks["generator"](batch["noise"])
            both = networks["discriminator"](torch.cat([batch["x"], fake_BCHW]))
            loss = losses.discriminator(*both.chunk(2))
            if wasserstein:
                loss = loss + PENALTY * gradient_penalty(
                    networks["discriminator"], batch["x"], fake_BCHW, batch["mix"]
                )
            return loss

        def generator_loss(networks: Networks, batch: Batch) -> Tensor:
            fake_BCHW = networks["generator"](batch["noise"])
            return losses.generator(networks["discriminator"](fake_BCHW))

        optimizer = self.base_optimizer(cell.model)
        turns = CRITIC_STEPS if wasserstein else 1
        return [
            Player("discriminator", ("discriminator",), discriminator_loss, optimizer, turns),
            Player("generator", ("generator",), generator_loss, optimizer),
        ]

    def batches(
        self,
        cell: Cell,
        budget: Budget,
        networks: Networks,
        generator: torch.Generator,
        device: torch.device,
    ) -> Batches:
        x_NCHW = self.images.train_x[: budget.samples].float() / 127.5 - 1
        shuffled = Shuffled({"x": x_NCHW}, generator, device)
        return WithNoise(shuffled, {"noise": (self.latents,), "mix": (1, 1, 1)})

    @torch.no_grad()
    def sample(
        self, networks: Networks, cell: Cell, count: int, generator: torch.Generator
    ) -> Tensor:
        device = next(networks["generator"].parameters()).device
        z_NZ = torch.randn(count, self.latents, generator=generator)
        x_NCHW = torch.cat([networks["generator"](z) for z in z_NZ.to(device).split(500)])
        level_NCHW = ((x_NCHW + 1) / 2 * (self.levels - 1)).round().long()
        return pixels.to_images(level_NCHW, self.levels)


def gradient_penalty(
    critic: nn.Module, real_BCHW: Tensor, fake_BCHW: Tensor, mix_B111: Tensor
) -> Tensor:
    """Compute WGAN-GP's penalty: (|gradient| - 1)^2 at points between real and fake images.

    mix_B111 is standard normal; its normal CDF is the real image's share in a point. Returns a
    scalar.
    """
    share_B111 = torch.special.ndtr(mix_B111)
    between = share_B111 * real_BCHW + (1 - share_B111) * fake_BCHW
    if isinstance(critic, nn.Module):  # torch.func knows no DataParallel
        between.requires_grad_()
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    else:  # and vmap no torch.autograd
        gradient = torch.func.grad(lambda x: critic(x).sum())(between)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
