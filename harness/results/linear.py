"""Least squares on levels of axes: sums of squares, and effects of levels with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.results.quantiles import f_tail, t_quantile


@dataclass(frozen=True)
class Fit:
    """A model of main effects, fitted to N values: an intercept, then a column for each level.

    gram_PP: pseudo-inverse of the columns' products; kept_PP: projector on what the cells
    determine; weights_P: the fitted effects; rss, rank: residual sum of squares, rank.
    """

    gram_PP: np.ndarray
    kept_PP: np.ndarray
    weights_P: np.ndarray
    rss: float
    rank: int


def fit(blocks: list[np.ndarray], values_N: np.ndarray) -> Fit:
    """Fit values on an intercept and blocks of dummy columns, each of shape N, levels."""
    design_NP = np.hstack([np.ones((len(values_N), 1)), *blocks])
    found, vectors = np.linalg.eigh(design_NP.T @ design_NP)
    kept = found > found.max() * len(found) * 1e-12
    basis_PR = vectors[:, kept]
    gram_PP = (basis_PR / found[kept]) @ basis_PR.T
    weights_P = gram_PP @ (design_NP.T @ values_N)
    left_N = values_N - design_NP @ weights_P
    rss = float(left_N @ left_N)
    noise = float(values_N @ values_N) * 1e-24 * len(values_N)
    rss = 0.0 if rss <= noise else rss  # what rounding leaves of a perfect fit
    return Fit(gram_PP, basis_PR @ basis_PR.T, weights_P, rss, int(kept.sum()))


def dummies(codes_N: np.ndarray) -> np.ndarray:
    """Return a column of 0 and 1 for each integer code: shape N, levels."""
    return np.eye(codes_N.max() + 1)[codes_N]


def crossed(one_N: np.ndarray, other_N: np.ndarray) -> np.ndarray:
    """Return a column for each pair of two axes' codes that occurs: shape N, pairs."""
    codes_N = np.unique(one_N * (other_N.max() + 1) + other_N, return_inverse=True)[1]
    return dummies(codes_N)


def test(without: Fit, whole: Fit, residual: Fit, count: int, total: float) -> tuple[float, float]:
    """Return omega squared of what ``whole`` has beyond ``without``, and its F test's p.

    residual: the model whose residual is taken for noise. count: cells; total: their sum of squares
    about the mean. Omega squared is 0 where chance would explain as much. NaN without a degree of
    freedom of its own, or none left for noise.
    """
    own, left = whole.rank - without.rank, count - residual.rank
    if not own or left <= 0:
        return np.nan, np.nan
    explained = max(without.rss - whole.rss, 0.0)
    noise = residual.rss / left
    if not noise:
        return (explained / total, 0.0) if explained else (0.0, 1.0)
    omega = (explained - own * noise) / (total + noise)
    return max(omega, 0.0), f_tail(explained / own / noise, own, left)


def level_effects(
    found: Fit, codes: Mapping[str, np.ndarray], axis: str, count: int
) -> list[tuple[float, float, float]]:
    """Return how far each level of an axis is from the mean of the axis's levels, other axes equal.

    Effect, and the ends of its 95 % interval of Student's t: NaN where the cells do not determine
    it, or leave nothing to tell noise by.
    """
    sizes = {name: int(c.max()) + 1 for name, c in codes.items()}
    names = list(sizes)
    start = 1 + sum(sizes[name] for name in names[: names.index(axis)])
    levels, left = sizes[axis], count - found.rank
    contrast_LP = np.zeros((levels, len(found.weights_P)))
    contrast_LP[:, start : start + levels] = np.eye(levels) - 1 / levels
    known_L = np.abs(contrast_LP @ found.kept_PP - contrast_LP).max(axis=1) < 1e-8
    effect_L = np.where(known_L, contrast_LP @ found.weights_P, np.nan)
    spread_L = np.einsum("lp,pq,lq->l", contrast_LP, found.gram_PP, contrast_LP)
    noise = found.rss / left if left > 0 else np.nan
    wide_L = t_quantile(0.975, max(left, 1)) * np.sqrt(np.maximum(spread_L, 0) * noise)
    ends = zip(effect_L, effect_L - wide_L, effect_L + wide_L, strict=True)
    return [(float(value), float(low), float(high)) for value, low, high in ends]
