"""Quantiles and tails of Student's t, F and beta: scipy.special's, as scipy.stats loads slowly."""

from __future__ import annotations

from typing import Any

from scipy import special

NORMAL = float(special.ndtri(0.975))  # the normal distribution's 0.975 quantile


def t_quantile(p: float, df: Any) -> Any:
    """Return the quantile of Student's t with ``df`` degrees of freedom, a number or an array."""
    return special.stdtrit(df, p)


def t_tail(value: Any, df: Any) -> Any:
    """Return the probability that Student's t exceeds a value; both may be arrays."""
    return special.stdtr(df, -value)


def f_tail(value: float, between: int, within: int) -> float:
    """Return the probability that F exceeds a value, for degrees of freedom above and below."""
    return float(special.fdtrc(between, within, value))


def beta_quantile(p: float, a: float, b: float) -> float:
    """Return the quantile of the beta distribution."""
    return float(special.betaincinv(a, b, p))
