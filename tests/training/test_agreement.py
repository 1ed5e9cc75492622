"""How far two trainings' curves are apart."""

import pytest

from harness.training import agreement


def test_curves_of_other_rates_or_lengths_are_not_within_any_tolerance():
    curve = {"step": [50.0, 100.0, 150.0], "loss": [1.0, 0.5, 0.1], "lr": [0.1, 0.1, 0.1]}
    later = {**curve, "loss": [1.0, 0.5, 9.0]}
    assert agreement.difference(curve, later) == 0
    assert agreement.difference(curve, {**curve, "loss": [1.0, 0.55, 0.1]}) == pytest.approx(0.1)
    assert agreement.difference(curve, {**curve, "lr": [0.1, 0.2, 0.1]}) == float("inf")
    assert agreement.difference(curve, {}) == float("inf")
