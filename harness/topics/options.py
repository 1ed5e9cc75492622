"""What a command line may say of the built-in topics' data: fields that topics share.

Nothing here imports torch, so that a command line is read fast.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.options import option

SHAPES = {  # of the image datasets: channels and size
    "digits": (1, 8),
    "mnist": (1, 28),
    "binary-mnist": (1, 28),
    "fashion-mnist": (1, 28),
    "cifar10": (3, 32),
}
IMAGE_DATASETS = tuple(SHAPES)


@dataclass(frozen=True)
class ImageOptions:
    """Which images a topic learns from, and where they are."""

    dataset: str = option("digits", f"images: {', '.join(IMAGE_DATASETS)}")
    data_dir: str | None = option(None, "where torchvision's datasets are", "DIR")
    download: bool = option(False, "let torchvision fetch them")


@dataclass(frozen=True)
class FIDOptions:
    """Which network FID looks through."""

    fid_weights: str | None = option(None, "InceptionV3's weights, for FID", "FILE")


@dataclass(frozen=True)
class EnvironmentOptions:
    """What agents act in."""

    env: str = option("CartPole-v1", "rl in this Gymnasium environment", "ID")


@dataclass(frozen=True)
class TableOptions:
    """Which table a regression learns from."""

    table: str | None = option(None, "regression on this CSV or Parquet file", "FILE")
    target: str | None = option(None, "the table's column to predict", "COLUMN")


TOPIC_OPTIONS = (ImageOptions, FIDOptions, EnvironmentOptions, TableOptions)
