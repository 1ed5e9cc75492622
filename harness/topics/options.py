"""Command-line options of the built-in topics, as dataclasses that topics derive from.

They refuse sizes and counts that are too small, whatever sets them.

Nothing here imports torch, so that a command line is read fast.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.cell import UsageError
from harness.options import option

SHAPES = {  # of the image datasets: channels and size
    "digits": (1, 8),
    "mnist": (1, 28),
    "binary-mnist": (1, 28),
    "fashion-mnist": (1, 28),
    "cifar10": (3, 32),
}
IMAGE_DATASETS = tuple(SHAPES)
IMAGE_SIZES = ("width", "features", "latents", "code", "depth", "fid_samples")
TABLE_SIZES = ("hidden", "trees", "depth", "kernel_points")
AGENT_SIZES = ("num_envs", "buffer_size", "train_frequency", "target_updates")
NOTES = "__annotations__"
LEAST = {"learning_starts": 0} | dict.fromkeys((*IMAGE_SIZES, *TABLE_SIZES, *AGENT_SIZES), 1)


class Sized:
    """A topic with sizes and counts among its fields. Raises UsageError for one it cannot have.

    A field that a class of someone else's declares is theirs, whatever its name.
    """

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            value = vars(self).get(name)
            declared = (kind for kind in type(self).__mro__ if name in vars(kind).get(NOTES, ()))
            ours = next((kind.__module__.startswith("harness.") for kind in declared), False)
            if ours and isinstance(value, int) and value < least:
                raise UsageError(f"{name} {value}: it must be {least} or more")

    def _refuse_remainder(self, name: str, divisor: int) -> None:
        """Raise UsageError for a field that is no multiple of the divisor."""
        value = getattr(self, name)
        if value % divisor:
            raise UsageError(f"{name} {value}: it must be a multiple of {divisor}")


@dataclass(frozen=True)
class ImageOptions(Sized):
    """Options of topics that learn from images: the dataset, and the folder it is in."""

    dataset: str = option("digits", f"images: {', '.join(IMAGE_DATASETS)}")
    data_dir: str | None = option(None, "where torchvision's datasets are", "DIR", place=True)
    download: bool = option(False, "let torchvision fetch them", place=True)


@dataclass(frozen=True)
class FIDOptions:
    """Option of image generators: the file of InceptionV3's weights for FID."""

    fid_weights: str | None = option(None, "InceptionV3's weights, for FID", "FILE", place=True)


@dataclass(frozen=True)
class EnvironmentOptions(Sized):
    """Option of reinforcement learning: the Gymnasium environment."""

    env: str = option("CartPole-v1", "rl in this Gymnasium environment", "ID")


@dataclass(frozen=True)
class TableOptions(Sized):
    """Options of regression: the table's file, and the column to predict."""

    table: str | None = option(
        None, "regression on this table: .csv or .tsv (also .gz), .parquet", "FILE", place=True
    )
    target: str | None = option(None, "the table's column to predict, by name", "COLUMN")


TOPIC_OPTIONS = (ImageOptions, FIDOptions, EnvironmentOptions, TableOptions)
