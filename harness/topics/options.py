"""Command-line options of the built-in topics, as dataclasses that topics derive from.

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
    """Options of topics that learn from images: the dataset, and the folder it is in."""

    dataset: str = option("digits", f"images: {', '.join(IMAGE_DATASETS)}")
    data_dir: str | None = option(None, "where torchvision's datasets are", "DIR", place=True)
    download: bool = option(False, "let torchvision fetch them", place=True)


@dataclass(frozen=True)
class FIDOptions:
    """Option of image generators: the file of InceptionV3's weights for FID."""

    fid_weights: str | None = option(None, "InceptionV3's weights, for FID", "FILE", place=True)


@dataclass(frozen=True)
class EnvironmentOptions:
    """Option of reinforcement learning: the Gymnasium environment."""

    env: str = option("CartPole-v1", "rl in this Gymnasium environment", "ID")


@dataclass(frozen=True)
class TableOptions:
    """Options of regression: the table's file, and the column to predict."""

    table: str | None = option(
        None, "regression on this table: .csv or .tsv (also .gz), .parquet", "FILE", place=True
    )
    target: str | None = option(None, "the table's column to predict, by name", "COLUMN")


TOPIC_OPTIONS = (ImageOptions, FIDOptions, EnvironmentOptions, TableOptions)
