"""What an audit finds is held to what the training saved."""

import math

import pytest

from harness.trial.outcome import Saved, same_numbers


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"precision": math.nan, "r2": 0.5}, {"r2": 0.5, "precision": math.nan}, True),
        ({"loss": [math.nan, 0.1 + 0.2]}, {"loss": [math.nan, 0.3]}, False),
        ({"a": math.nan}, {"a": 1.0}, False),
        ({"a": math.inf}, {"a": -math.inf}, False),
        ({}, {"a": 1.0}, False),
    ],
)
def test_nan_is_the_same_as_nan_and_all_else_bit_for_bit(one, other, same):
    assert same_numbers(one, other) is same


def test_a_metric_that_is_not_measured_comes_back():
    saved = Saved("d", 1, 0.1, metrics={"precision": math.nan})
    assert saved.hold_to("d", None, {"precision": math.nan}, 0.1).metrics_equal
    assert not saved.hold_to("d", None, {"precision": 1.0}, 0.1).metrics_equal
