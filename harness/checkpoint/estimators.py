"""Fitted scikit-learn estimators as tensors for a checkpoint, in skops' format: it runs no code."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from harness.checkpoint import CheckpointError


def dumps(estimator: Any) -> Tensor:
    """Serialise a fitted estimator to a uint8 tensor, which a checkpoint can hold."""
    import skops.io  # with scikit-learn it takes as long as torch: only trees need it

    return torch.frombuffer(bytearray(skops.io.dumps(estimator)), dtype=torch.uint8)


def loads(data: Tensor) -> Any:
    """Restore an estimator from the tensor that ``dumps`` returned.

    Raises CheckpointError for types outside scikit-learn and NumPy.
    """
    import skops.io

    raw = data.numpy().tobytes()
    unknown = [t for t in skops.io.get_untrusted_types(data=raw) if not t.startswith("sklearn.")]
    if unknown:
        raise CheckpointError(f"the estimator holds types that are not trusted: {unknown}")
    return skops.io.loads(raw, trusted=skops.io.get_untrusted_types(data=raw))


def digest(estimator: Any) -> str:
    """Return a hex SHA-256 over the arrays of a decision tree or of all trees of a forest."""
    sha = hashlib.sha256()
    for tree in getattr(estimator, "estimators_", [estimator]):
        state = tree.tree_.__getstate__()
        for name in state["nodes"].dtype.names:  # one by one: the bytes between them are arbitrary
            sha.update(state["nodes"][name].tobytes())
        sha.update(state["values"].tobytes())
    return sha.hexdigest()
