"""What the image generators' topics share: their data, and evaluation by FID."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.axes.losses import pixels
from harness.cell import Cell
from harness.files import cache_folder
from harness.topics import datasets
from harness.topics.generators import feature_extractor, fid
from harness.topics.options import SHAPES, FIDOptions, ImageOptions
from harness.training.topic import Networks, Topic

COLLAPSED = 0.1  # of the real images' mean distance
LOOKED_AT = 64
FID_SEED = 0
VALIDATION_SEED = 1_000_000  # added to a cell's seed: of the noise whose images validate


@dataclass(frozen=True)
class GeneratorTopic(ImageOptions, FIDOptions, Topic):
    """Base class of topics that generate images like a dataset's, at the dataset's image size.

    fid_weights: a file of InceptionV3's weights; without it ``feature_extractor.load`` chooses.
    fid_samples: images on each side of an FID, fewer where the data has fewer; the real ones are
    the first of the training set, which a generator is asked to imitate.
    """

    fid_samples: int = 10_000

    generates: ClassVar[bool] = True

    def dataset_id(self) -> str:
        return f"{self.dataset}@{self.images.sha}"

    @property
    def images(self) -> datasets.Split:
        """Return the dataset's training and test images, with their labels."""
        return datasets.images(self.dataset, self.data_dir, self.download)

    @property
    def shape(self) -> tuple[int, int]:
        """Return the images' channels and side in pixels, without loading them."""
        return SHAPES[self.dataset]

    @property
    def levels(self) -> int:
        """Return how many values a pixel can have: 17 for the digits, 256 for most others."""
        return datasets.LEVELS.get(self.dataset, 256)

    def data_notes(self) -> list[str]:
        few = min(len(self.real()), len(self.images.test_x))
        if self.fid_weights is None or few > feature_extractor.INCEPTION_FEATURES:
            return []
        least = feature_extractor.INCEPTION_FEATURES + 1
        return [f"--fid-weights need {least:,} images, {few:,} are compared: digits-net is used"]

    def likelihood(self, networks: Networks, cell: Cell, x_NCHW: Tensor) -> dict[str, Any]:
        """Return metrics of the likelihood of images, uint8; empty if the model has none."""
        return {}

    def simple_bits(self, held_out: int) -> dict[str, float]:
        """Return the bits/dim of two simple models on the first ``held_out`` test images.

        A histogram and a Gaussian per pixel, to compare a likelihood on the same images with.
        """
        return _simple_bits(self.dataset, self.data_dir, self.download, self.levels, held_out)

    def real(self) -> Tensor:
        """Return the real images that an FID compares generated ones with."""
        return self.images.train_x[: self.fid_samples]

    def evaluate(self, networks: Networks, cell: Cell) -> dict[str, Any]:
        likelihood = self.likelihood(networks, cell, self.images.test_x)
        noise = torch.Generator().manual_seed(cell.seed)
        return likelihood | self._distances(networks, cell, self.real(), noise, FID_SEED)

    def validate(self, networks: Networks, cell: Cell) -> dict[str, Any]:
        """Measure as ``evaluate`` does, from other noise and against other real images.

        Those are the first of the test set, of which only a likelihood is reported; a likelihood is
        that of a fold of the training images that the seed does not train on.
        """
        rows = self.images.fold(cell.seed).validation
        likelihood = self.likelihood(networks, cell, self.images.train_x[rows])
        real = self.images.test_x[: self.fid_samples]
        noise = torch.Generator().manual_seed(VALIDATION_SEED + cell.seed)
        return likelihood | self._distances(networks, cell, real, noise, None)

    def _distances(
        self,
        networks: Networks,
        cell: Cell,
        real: Tensor,
        noise: torch.Generator,
        fid_seed: int | None,
    ) -> dict[str, Any]:
        """Return how far as many images as ``real``, made from ``noise``, are from them.

        fid_seed: of the FID's interval, None for none.
        """
        device = next(next(iter(networks.values())).parameters()).device
        eyes = feature_extractor.load(weights=self.fid_weights, samples=len(real), device=device)
        made = self.sample(networks, cell, len(real), noise)
        found = fid.evaluate(real, made, eyes, fid_seed, cache_folder("fid"))
        return found | fid.describe(real, made, eyes)

    def failure(self, networks: Networks, cell: Cell) -> str | None:
        """Report mode collapse: generated images that differ far less than real ones do."""
        made = self.sample(networks, cell, LOOKED_AT, torch.Generator().manual_seed(cell.seed))
        return collapsed(mean_distance(made) / mean_distance(self.real()[:LOOKED_AT]))


def collapsed(share: float) -> str | None:
    """Return why images that differ a share as much as real ones are a failure; None if not."""
    if share < COLLAPSED:
        return f"mode collapse (its images differ {share:.0%} as much as real ones)"
    return None


def halvings(size: int) -> int:
    """Return how often an image's side can be halved down to 4 at least.

    8 -> 1, 28 -> 2, 64 -> 4.
    """
    return 1 + halvings(size // 2) if size % 2 == 0 and size >= 8 else 0


def mean_distance(images_NCHW: Tensor) -> float:
    """Return the mean Euclidean distance between two of the images."""
    return torch.pdist(images_NCHW.flatten(1).double()).mean().item()


@cache
def _simple_bits(
    dataset: str, folder: str | None, download: bool, levels: int, held_out: int
) -> dict[str, float]:
    """Compute ``GeneratorTopic.simple_bits``, once a process for each argument."""
    split = datasets.images(dataset, folder, download)
    train = pixels.to_levels(split.train_x, levels)
    test = pixels.to_levels(split.test_x[:held_out], levels)
    return {
        "histogram_bits": pixels.histogram_bits(train, test, levels),
        "gaussian_bits": pixels.gaussian_bits(train, test, levels),
    }
