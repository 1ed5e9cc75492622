"""Parallel configurations (note 96): names, layouts of networks over ranks, collectives."""

from harness.axes.parallel.collectives import (
    average,
    full_tensors,
    gather_to_rank_zero,
    is_rank_zero,
    laid_out_like,
    mean_over_ranks,
    mean_over_replicas,
    process_group,
    shard,
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
    "average",
    "full_tensors",
    "gather_to_rank_zero",
    "is_distributed",
    "is_rank_zero",
    "is_sharded",
    "laid_out_like",
    "mean_over_ranks",
    "mean_over_replicas",
    "process_group",
    "ranks",
    "shard",
    "skip_reason",
]
