"""Verdicts between two runs, and what cannot be compared."""

import pytest
from frames import frame

from harness.results import compare


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "same"),
        ({"shift": 0.005}, "same"),
        ({"shift": 0.1}, "better"),
        ({"shift": -0.1}, "worse"),
        ({"speed": 50.0}, "worse"),
        ({"speed": 103.0}, "same"),
        ({"equal": False}, "worse"),
        ({"speed": 50.0, "cpu": "other"}, "same"),
    ],
)
def test_the_verdict(change, verdict):
    found = compare.compare(frame(), frame(**change))
    assert found.verdict == verdict, found.table
    assert found.exit_code == (verdict == "worse")


def test_what_is_not_comparable_is_refused():
    with pytest.raises(compare.NotComparable, match=r"budget.steps of vgg/vgg11"):
        compare.compare(frame(), frame(steps=20))
    with pytest.raises(compare.NotComparable, match="no trained cell in common"):
        compare.compare(frame(), frame().assign(id="other"))
