"""Evaluation metrics: pure functions from predictions to named floats.

Shapes: N samples or scenes, K classes, P predicted boxes, T true boxes; A and B boxes of either.
Boxes are x0, y0, x1, y1; those without area are empty.
"""

from __future__ import annotations

import torch
from torch import Tensor


def classification(probabilities_NK: Tensor, target_N: Tensor, bins: int = 15) -> dict[str, float]:
    """Compute accuracy and top3 in 0..1, and ece: expected calibration error over equal-width bins.

    ece follows Guo et al. 2017: |accuracy - confidence| per bin, weighted by the bin's share.
    accuracy_se and top3_se: standard errors over the samples. All are NaN if a probability is.
    """
    confidence_N, predicted_N = probabilities_NK.double().max(-1)
    unknown_N = confidence_N.isnan()  # the maximum of a row with a NaN
    right_N = (predicted_N == target_N).double().masked_fill(unknown_N, torch.nan)
    top_N3 = probabilities_NK.topk(min(3, probabilities_NK.shape[-1]), -1).indices
    bin_N = (confidence_N.nan_to_num() * bins).ceil().clamp(1, bins).long() - 1
    gap = torch.zeros(bins, dtype=torch.float64, device=bin_N.device)
    gap.index_add_(0, bin_N, right_N - confidence_N)
    top_N = (top_N3 == target_N[:, None]).any(-1).double().masked_fill(unknown_N, torch.nan)
    return {
        "accuracy": right_N.mean().item(),
        "top3": top_N.mean().item(),
        "ece": (gap.abs().sum() / len(target_N)).item(),
        "accuracy_se": standard_error(right_N),
        "top3_se": standard_error(top_N),
    }


def standard_error(values_N: Tensor) -> float:
    """Return the standard error of the mean of N values; 0 of a single one."""
    if len(values_N) < 2:
        return 0.0
    return (values_N.double().var() / len(values_N)).sqrt().item()


def share(right: Tensor) -> float:
    """Return the share of a boolean tensor that is true."""
    return right.double().mean().item()


def regression(predicted_N: Tensor, target_N: Tensor) -> dict[str, float]:
    """Compute mse, mae in the target's (standardised) units, and r2 against the samples' mean.

    r2 is NaN where targets are all the same. mse_se and mae_se: standard errors over the samples.
    """
    error_N = predicted_N.double() - target_N.double()
    variance = (target_N.double() - target_N.double().mean()).square().mean()
    if target_N.min() == target_N.max():  # nothing to explain; rounding may leave a variance
        variance = torch.full_like(variance, torch.nan)
    return {
        "mse": error_N.square().mean().item(),
        "mae": error_N.abs().mean().item(),
        "r2": (1 - error_N.square().mean() / variance).item(),
        "mse_se": standard_error(error_N.square()),
        "mae_se": standard_error(error_N.abs()),
    }


def box_iou(a_NA4: Tensor, b_NB4: Tensor) -> Tensor:
    """Compute the IoU of each box of a with each of b, iou_NAB; empty boxes give 0."""
    low = torch.maximum(a_NA4[..., :, None, :2], b_NB4[..., None, :, :2])
    high = torch.minimum(a_NA4[..., :, None, 2:], b_NB4[..., None, :, 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    area_a, area_b = ((b[..., 2:] - b[..., :2]).clamp_min(0).prod(-1) for b in (a_NA4, b_NB4))
    both = area_a[..., :, None] + area_b[..., None, :] - shared
    return shared / both.where(both > 0, torch.ones_like(both))


def match(iou_NPT: Tensor, threshold: float) -> Tensor:
    """Match predicted boxes, the surest first, to true ones: taken_NP, an index or -1 for none.

    Each takes the best of those left with an IoU of ``threshold`` or more, as in COCO (Lin et al.
    2014).
    """
    left_NPT = iou_NPT.clone()
    taken = []
    for p in range(iou_NPT.shape[1]):
        best_N, truth_N = left_NPT[:, p].max(-1)
        truth_N = truth_N.where((best_N >= threshold) & (best_N > 0), -1)
        taken.append(truth_N)
        gone_NT = torch.arange(iou_NPT.shape[2], device=iou_NPT.device) == truth_N[:, None]
        left_NPT = left_NPT.masked_fill(gone_NT[:, None], -1)
    return torch.stack(taken, 1)


def detection(
    score_NP: Tensor, box_NP4: Tensor, truth_NT4: Tensor, threshold: float = 0.5
) -> dict[str, float]:
    """Compute ap50 and box_iou of boxes with scores in 0..1 against true ones, empty ones ignored.

    ap50: average precision at an IoU of 0.5, precision read at COCO's 101 recalls. box_iou: the
    mean over the true boxes of the IoU with the box that takes each (at any IoU) among those with
    a score of ``threshold`` or more; 0 for one that is missed.
    """
    order_NP = score_NP.argsort(dim=1, descending=True, stable=True)
    score_NP = score_NP.gather(1, order_NP)
    box_NP4 = box_NP4.gather(1, order_NP[..., None].expand(-1, -1, 4))
    iou_NPT = box_iou(box_NP4, truth_NT4).double()
    truths = int((truth_NT4[..., 2:] > truth_NT4[..., :2]).all(-1).sum())
    right_NP = match(iou_NPT, 0.5) >= 0
    found_NPT = iou_NPT * (score_NP >= threshold)[..., None]
    taken_NP = match(found_NPT, 0.0)
    kept_NP = found_NPT.gather(2, taken_NP.clamp_min(0)[..., None])[..., 0] * (taken_NP >= 0)
    return {
        "ap50": _average_precision(score_NP.flatten(), right_NP.flatten(), truths),
        "box_iou": (kept_NP.sum() / truths).item(),
    }


def _average_precision(score_P: Tensor, right_P: Tensor, truths: int) -> float:
    """Compute COCO's average precision: the best precision at recalls of 0 to 1, averaged."""
    right_P = right_P[score_P.argsort(dim=0, descending=True, stable=True)].double()
    hits_P = right_P.cumsum(0)
    precision_P = hits_P / torch.arange(1, len(hits_P) + 1, device=hits_P.device)
    best_P = precision_P.flip(0).cummax(0).values.flip(0)
    recalls = torch.linspace(0, 1, 101, dtype=torch.float64, device=hits_P.device)
    at = torch.searchsorted(hits_P / truths, recalls)
    return torch.cat([best_P, best_P.new_zeros(1)])[at].mean().item()


def mean_iou(predicted: Tensor, target: Tensor, classes: int) -> float:
    """Compute the mean over classes of the IoU of their pixels; absent classes are left out."""
    pairs = torch.bincount(target.flatten() * classes + predicted.flatten(), minlength=classes**2)
    confusion = pairs.reshape(classes, classes).double()
    shared = confusion.diagonal()
    either = confusion.sum(0) + confusion.sum(1) - shared
    return (shared / either)[either > 0].mean().item()
