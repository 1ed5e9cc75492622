"""Checkpoints (note 100): atomic saving, safe loading, checks before anything in memory changes."""

from harness.checkpoint.io import FORMAT, VERSION, load, save
from harness.checkpoint.networks import Mismatch, compare, load_network, partial
from harness.checkpoint.tree import CheckpointError, digest, plain

__all__ = [
    "FORMAT",
    "VERSION",
    "CheckpointError",
    "Mismatch",
    "compare",
    "digest",
    "load",
    "load_network",
    "partial",
    "plain",
    "save",
]
