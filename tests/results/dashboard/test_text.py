"""Numbers as the page shows them."""

import pytest

from harness.results.dashboard import text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, text.NONE),
        (float("nan"), text.NONE),
        (1e-9, "1e-09"),
        (0.123456, "0.1235"),
        (12345.6, "12,346"),
    ],
)
def test_numbers_have_four_digits(value, shown):
    assert text.number(value) == shown


def test_chances_have_two_digits_and_a_least():
    assert [text.chance(p) for p in (0.0, 0.0123, 1.0, None)] == [
        "< 0.001",
        "0.012",
        "1",
        text.NONE,
    ]
