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
    CONFIGURATIONS,
    EXACT,
    INEXACT,
    NAMES,
    TOLERANCE,
    Parallel,
    inexact,
    is_distributed,
    is_sharded,
    part,
    parts,
    ranks,
    skip_reason,
)
from harness.axes.parallel.layout import AVERAGE_EVERY, COMPRESS_FROM, Layout
from harness.axes.parallel.replicas import mean_over_gpus
from harness.axes.parallel.sharing import DRAWS, kind, shared_apart, shares

__all__ = [
    "AVERAGE_EVERY",
    "COMPRESS_FROM",
    "CONFIGURATIONS",
    "DRAWS",
    "EXACT",
    "INEXACT",
    "NAMES",
    "TOLERANCE",
    "Layout",
    "Parallel",
    "average",
    "full_tensors",
    "gather_to_rank_zero",
    "inexact",
    "is_distributed",
    "is_rank_zero",
    "is_sharded",
    "kind",
    "laid_out_like",
    "mean_over_gpus",
    "mean_over_ranks",
    "mean_over_replicas",
    "part",
    "parts",
    "process_group",
    "ranks",
    "shard",
    "shared_apart",
    "shares",
    "skip_reason",
]
