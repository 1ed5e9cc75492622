"""Numbers and dates as text: what a file's other columns decide, and dates that are none."""

import numpy as np
import pandas as pd
import pytest

from harness.topics.table_columns import take


def taken(values, separator=",", **more):
    """What a column of a file is taken for, beside more columns."""
    return take(pd.DataFrame({"c": values} | more), separator)["c"]


@pytest.mark.parametrize(
    ("values", "numbers", "said"),
    [
        (["962", "999", "1.036"], [962, 999, 1036], "signs between thousands ('1.036' is 1036)"),
        (["-1.125", "2.250"], [-1125, 2250], "signs between thousands ('-1.125' is -1125)"),
        (["0.125", "2.250"], [0.125, 2.25], ""),
        (["1.125", "2.25"], [1.125, 2.25], ""),
        (["1.125e-05", "2.250e+01"], [1.125e-05, 22.5], ""),
        (["1000.125", "2.250"], [1000.125, 2.25], ""),
        (["1", "2"], [1, 2], ""),
    ],
)
def test_points_before_three_digits_are_for_thousands_beside_semicolons(values, numbers, said):
    column = taken(values, ";")
    assert column.values.tolist() == numbers
    assert said in column.note and bool(column.note) == bool(said)


def test_points_before_three_digits_are_decimal_where_another_column_s_are():
    values = ["1.125", "2.250", "3.375"]
    assert taken(values, ",").values.tolist() == [1.125, 2.25, 3.375]
    assert taken(values, ";", d=["1.5", "2", "3"]).values.tolist() == [1.125, 2.25, 3.375]
    assert taken(values, ";", d=["1,5", "2", "3"]).values.tolist() == [1125, 2250, 3375]


@pytest.mark.parametrize(
    ("values", "days", "example"),
    [
        (["1/1/70", "31/1/70"], [0, 30], "'31/1/70' is 1970-01-31"),
        (["1/1/70 12:00", "1/31/70 00:00"], [0.5, 30], "'1/31/70 00:00' is 1970-01-31"),
        (["31-01-70", "01-02-70"], [30, 31], "'31-01-70' is 1970-01-31"),
        (["70-01-31", "70-02-01"], [30, 31], "'70-02-01' is 1970-02-01"),
        (["1/1/24", "31/1/24"], [19723, 19753], "'31/1/24' is 2024-01-31"),
    ],
)
def test_years_of_two_digits_are_read_and_said(values, days, example):
    column = taken(values)
    assert column.values.tolist() == days and example in column.note


@pytest.mark.parametrize("values", [["1/2/24", "2/1/24"], ["24-01-15", "24-01-16"]])
def test_dates_of_more_than_one_order_are_refused(values):
    assert "can be read in more than one order of day, month and year" in taken(values).wrong


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            [f"{1 + i % 31:02}.02.2024" for i in range(60)],
            "58 dates, but also 2 texts that are none ('30.02.2024', '31.02.2024'): write dates",
        ),
        (["2024-01-01"] * 20 + ["2024-02-30"], "20 dates, but also 1 texts that are none ('2024-0"),
        (["2024-01-01", "13.01.2024"], "its dates are not all written in the same way"),
    ],
)
def test_an_impossible_date_among_dates_is_refused_by_name(values, words):
    assert words in taken(values).wrong


def test_what_only_looks_like_a_date_stays_text():
    for values in (["1.2.3", "1.2.4", "1.2.10"], ["123-45-6789", "987-65-4321"]):
        assert "one-hot" in taken(values).note


@pytest.mark.parametrize("gap", ["0000-00-00", "0000-00-00 00:00:00"])
def test_a_date_of_zeros_is_a_gap(gap):
    column = taken(["1970-01-02", gap, "1970-01-04"])
    np.testing.assert_array_equal(column.values, [1, np.nan, 3])
    assert column.gaps == (gap,)
