"""How far two trainings' curves are apart."""

import pytest
import torch

from harness import checkpoint
from harness.training import agreement


def test_curves_of_other_rates_or_lengths_are_not_within_any_tolerance():
    curve = {"step": [50.0, 100.0, 150.0], "loss": [1.0, 0.5, 0.1], "lr": [0.1, 0.1, 0.1]}
    later = {**curve, "loss": [1.0, 0.5, 9.0]}
    assert agreement.difference(curve, later) == 0
    assert agreement.difference(curve, {**curve, "loss": [1.0, 0.55, 0.1]}) == pytest.approx(0.1)
    assert agreement.difference(curve, {**curve, "lr": [0.1, 0.2, 0.1]}) == float("inf")
    assert agreement.difference(curve, {}) == float("inf")


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("expected", "got", "difference"),
    [
        ([1.0, 1.0], [1.0, NAN], INF),
        ([1.0, NAN], [1.0, 1.0], INF),
        ([INF, 1.0], [1.0, 1.0], INF),
        ([1.0, INF], [1.0, NAN], 0.0),
        ([1.0, NAN, 2.0], [1.0, NAN, 3.0], 0.5),
        ([], [], 0.0),
    ],
)
def test_a_value_that_is_not_finite_agrees_with_no_finite_one(expected, got, difference):
    assert agreement.largest_difference(expected, got) == difference


def test_values_near_zero_are_compared_as_if_they_were_the_least():
    assert agreement.largest_difference([0.0, 2.0], [1e-4, 2.0], 1e-2) == pytest.approx(1e-2)


def test_a_game_s_first_losses_are_those_of_its_checkpoint_where_the_curve_has_no_point(tmp_path):
    exact = {"step": [1.0, 2.0], "loss": [1.0, 0.5], "lr": [0.1, 0.1]}
    means = {"step": [25.0, 50.0], "loss": [3.0, 4.0], "lr": [0.1, 0.1]}
    paths = [tmp_path / name for name in ("kept.pt", "new.pt")]
    assert agreement.first_steps([exact, {}], paths, 2) == [exact, {}]
    assert agreement.first_steps([means, means], paths, 2) == []
    for path, second in zip(paths, (0.5, 0.75), strict=True):
        losses, rates = torch.tensor([1.0, second, 9.0]), torch.tensor([0.1, 0.1, 0.2])
        checkpoint.save(path, {"history": {"losses": losses, "rates": rates}})
    read = agreement.first_steps([means, means], paths, 2)
    assert agreement.difference(*read, 1) == 0
    assert agreement.difference(*read, 2) == pytest.approx(0.5)
