"""Parallel configurations (note 96): names, layouts of networks over ranks, collectives."""

from harness.axes.parallel.collectives import (
    averaged,
    gathered,
    is_first,
    like,
    mean,
    mean_over,
    process_group,
    shard,
    whole,
)
from harness.axes.parallel.configurations import (
    EXACT,
    INEXACT,
    NAMES,
    TOLERANCE,
    is_distributed,
    is_sharded,
    ranks,
    skip_reason,
)
from harness.axes.parallel.layout import AVERAGE_EVERY, Layout

__all__ = [
    "AVERAGE_EVERY",
    "EXACT",
    "INEXACT",
    "NAMES",
    "TOLERANCE",
    "Layout",
    "averaged",
    "gathered",
    "is_distributed",
    "is_first",
    "is_sharded",
    "like",
    "mean",
    "mean_over",
    "process_group",
    "ranks",
    "shard",
    "skip_reason",
    "whole",
]
