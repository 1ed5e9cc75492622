"""Measure how far the losses of two trainings that should agree are apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

AGREE = 100  # first steps whose losses are compared
TOLERANCE = 1e-4  # relative difference of them that is allowed
CURVE = ("step", "lr", "loss")


def largest_difference(expected: Iterable[float], got: Iterable[float]) -> float:
    """Return the largest relative difference of equally many values; 0 of none.

    Relative to ``expected``. Raises ValueError if there are not equally many.
    """
    pairs = zip(expected, got, strict=True)
    return max((abs(a - b) / max(abs(a), 1e-12) for a, b in pairs), default=0.0)


def difference(first: Mapping[str, list[float]], second: Mapping[str, list[float]]) -> float:
    """Return the largest relative difference of two curves' losses in their first AGREE steps.

    Infinite if their steps or learning rates there are not equal.
    """
    count = max(1, sum(step <= AGREE for step in first.get("step", ())))
    begun = [{name: curve.get(name, [])[:count] for name in CURVE} for curve in (first, second)]
    if any(begun[0][name] != begun[1][name] for name in ("step", "lr")):
        return float("inf")
    return largest_difference(begun[0]["loss"], begun[1]["loss"])
