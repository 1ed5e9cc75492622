"""Pure functions: predictions -> named floats. Shapes: N samples, K classes."""

from __future__ import annotations

import torch
from torch import Tensor


def classification(probabilities_NK: Tensor, target_N: Tensor, bins: int = 15) -> dict[str, float]:
    """accuracy and top3 in 0..1, and ece: expected calibration error over equal-width bins.

    ece follows Guo et al. 2017: |accuracy - confidence| per bin, weighted by the bin's share.
    """
    confidence_N, predicted_N = probabilities_NK.double().max(-1)
    right_N = (predicted_N == target_N).double()
    top_N3 = probabilities_NK.topk(min(3, probabilities_NK.shape[-1]), -1).indices
    bin_N = (confidence_N * bins).ceil().clamp(1, bins).long() - 1
    gap = torch.zeros(bins, dtype=torch.float64, device=bin_N.device)
    gap.index_add_(0, bin_N, right_N - confidence_N)
    return {
        "accuracy": right_N.mean().item(),
        "top3": (top_N3 == target_N[:, None]).any(-1).double().mean().item(),
        "ece": (gap.abs().sum() / len(target_N)).item(),
    }


def regression(predicted_N: Tensor, target_N: Tensor) -> dict[str, float]:
    """mse, mae in the target's (standardised) units, and r2 against the test mean."""
    error_N = predicted_N.double() - target_N.double()
    spread = (target_N.double() - target_N.double().mean()).square().mean()
    return {
        "mse": error_N.square().mean().item(),
        "mae": error_N.abs().mean().item(),
        "r2": (1 - error_N.square().mean() / spread).item(),
    }
