"""Text that stands for values of declared types."""

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import typed

floats = st.floats(allow_nan=False)
VALUES = [
    (int, st.integers()),
    (float, floats),
    (bool, st.booleans()),
    (int | None, st.none() | st.integers()),
    (tuple[int, ...], st.lists(st.integers()).map(tuple)),
    (tuple[float, float] | None, st.none() | st.tuples(floats, floats)),
    (Literal["relu", "tanh"], st.sampled_from(["relu", "tanh"])),
    (str | None, st.none() | st.text(min_size=1).filter(lambda text: text != "none")),
]


@pytest.mark.parametrize(("kind", "values"), VALUES, ids=str)
def test_what_is_written_reads_back(kind, values):
    @given(values)
    def check(value):
        assert typed.read(kind, typed.written(value)) == value

    check()


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, "1e3", 1000),
        (float, "1e-3", 0.001),
        (bool, "True", True),
        (tuple[int, ...], "64+", (64,)),
        (tuple[int, ...], "()", ()),
        (str, "none", "none"),
        (str, "C++", "C++"),
        (str | None, "none", None),
    ],
)
def test_text_is_read_by_its_type(kind, text, value):
    assert typed.read(kind, text) == value


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (int, "0.5", "it takes a whole number"),
        (float, "nan", "it takes a number"),
        (bool, "yes", "it takes true or false"),
        (int | None, "x", "it takes a whole number or none"),
        (tuple[int, ...], "64", "a whole number or several, joined by +"),
        (tuple[int, int], "64+32+16", "it takes a whole number + a whole number"),
        (Literal["relu", "tanh"], "rely", "unknown value 'rely': choose from relu, tanh"),
        (tuple, "1+2", "no text stands for the type tuple"),
        (dict[str, int], "x", "no text stands for"),
    ],
)
def test_what_a_type_does_not_have_is_refused(kind, text, says):
    with pytest.raises(ValueError) as error:
        typed.read(kind, text)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-5, "0.00001"), (0.1, "0.1"), (3.0, "3"), (1e300, "1e300"), (1e-30, "1e-30"), ((1,), "1+")],
)
def test_numbers_are_written_short(value, text):
    assert typed.written(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float64(1e-4), "0.0001"),
        (np.float64(1e-30), "1e-30"),
        (np.float32(0.5), "0.5"),
        (np.int64(3), "3"),
        ([np.float64(0.5), np.float64(2)], "0.5+2"),
    ],
)
def test_numbers_of_numpy_are_written_as_python_s(value, text):
    assert typed.written(value) == text


@pytest.mark.parametrize(
    "kind", [list, Any, tuple[tuple[str, str], ...], tuple[tuple[int, int] | None]], ids=str
)
def test_no_text_stands_for_other_types(kind):
    assert not typed.has_text(kind) and typed.has_text(int | None)
    with pytest.raises(ValueError, match="no text stands for"):
        typed.read(kind, "1+2")
