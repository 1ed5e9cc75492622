"""Measure how far the losses of two trainings that should agree are apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness import checkpoint
from harness.training.curve import thinned

AGREE = 100  # first steps whose losses are compared, unless the topic says fewer
TOLERANCE = 1e-4  # relative difference of them that is allowed
CURVE = ("step", "lr", "loss")
Curve = Mapping[str, list[float]]


def largest_difference(
    expected: Iterable[float], got: Iterable[float], least: float = 1e-12
) -> float:
    """Return the largest relative difference of equally many values; 0 of none.

    Relative to ``expected``, or to ``least`` where that is larger. Infinite if only one of two
    values is finite; two that are not do not differ. Raises ValueError if there are not equally
    many.
    """
    pairs = zip(expected, got, strict=True)
    return max((_apart(a, b, least) for a, b in pairs), default=0.0)


def _apart(expected: float, got: float, least: float) -> float:
    finite = [math.isfinite(value) for value in (expected, got)]
    if not all(finite):
        return math.inf if any(finite) else 0.0
    return abs(expected - got) / max(abs(expected), least)


def difference(first: Curve, second: Curve, steps: int = AGREE) -> float:
    """Return the largest relative difference of two curves' losses in so many first steps.

    Of their first points, if those are later. Infinite if their steps or learning rates there are
    not equal.
    """
    count = max(1, sum(step <= steps for step in first.get("step", ())))
    begun = [{name: curve.get(name, [])[:count] for name in CURVE} for curve in (first, second)]
    if any(begun[0][name] != begun[1][name] for name in ("step", "lr")):
        return float("inf")
    return largest_difference(begun[0]["loss"], begun[1]["loss"])


def first_steps(
    curves: Sequence[Curve], checkpoints: Sequence[Path], steps: int
) -> Sequence[Curve]:
    """Return the trainings' curves with a point within the first ``steps``, to compare them there.

    Where points are means over more steps, they are the curves that the trainings' checkpoints
    hold, with a point for each step; empty if one of those cannot be read.
    """
    if all(curve.get("step", [0])[0] <= steps for curve in curves):
        return curves
    try:
        kept = [checkpoint.load(path)["history"] for path in checkpoints]
    except (checkpoint.CheckpointError, KeyError):  # gone, or of before there was a history
        return []
    return [
        thinned(own["losses"].unbind(), own["rates"].tolist(), {}, len(own["losses"]))
        for own in kept
    ]
