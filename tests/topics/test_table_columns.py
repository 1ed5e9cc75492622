"""What columns are taken for, what is said of it, and what is refused."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cell import UsageError
from harness.topics import datasets, tables
from harness.topics.regression import Regression
from harness.topics.table_columns import DAYS, take

ROWS = 100
DRAW = np.random.default_rng(3)
X = DRAW.normal(size=ROWS)
Y = X + DRAW.normal(size=ROWS)


def taken(values, separator=","):
    """What a column of a file is taken for."""
    return take(pd.DataFrame({"c": values}), separator)["c"]


def load(tmp_path, target="y", **columns):
    """The table of columns beside a feature x and a target y, saved with their types."""
    pd.DataFrame({"x": X, "y": Y} | columns).to_parquet(tmp_path / "t.parquet")
    return tables.load(tmp_path / "t.parquet", target, 64)


@pytest.mark.parametrize(
    ("values", "numbers", "said"),
    [
        (["1", "-2.5", "3e2"], [1, -2.5, 300], ""),
        (["1", "?", " 3 "], [1, np.nan, 3], ""),
        (["1", "-", "3"], [1, np.nan, 3], ""),
        (["6,5724", "1,011", "2"], [6.5724, 1.011, 2], "decimal comma ('6,5724' is 6.5724)"),
        (["1,234", "999", "1,234,567.5"], [1234, 999, 1234567.5], "signs between thousands"),
        (["1.234,5", "1.234.567"], [1234.5, 1234567], "('1.234.567' is 1234567)"),
        (["1\u202f234,5", "12"], [1234.5, 12], "a decimal comma and signs between thousands"),
        (["1'234.5", "12"], [1234.5, 12], "signs between thousands ('1'234.5'"),
        (["007", "012"], [7, 12], "leading zeros ('012' is 12)"),
        (["inf", "1", "-Infinity"], [np.inf, 1, -np.inf], ""),
        (["True", "false", "NA"], [1, 0, np.nan], "true and false, read as 1 and 0"),
        (["1970-01-02", "1970-01-03 12:00"], [1, 2.5], "days since 1970-01-01"),
        (["31.01.1970", "01.02.1970"], [30, 31], "('31.01.1970' is 1970-01-31)"),
        (["01/31/1970", "02/01/1970"], [30, 31], "('02/01/1970' is 1970-02-01)"),
        (["9999-12-31", "1970-01-02", ""], [2932896, 1, np.nan], "'9999-12-31' is 9999-12-31"),
        (["01.01.1600", "31.12.9999"], [-135140, 2932896], "('31.12.9999' is 9999-12-31)"),
        (["0001-01-01 06:00", "1970-01-02"], [-719161.75, 1], "'1970-01-02' is 1970-01-02"),
        (["9999-12-31T19:00-05:00"], [2932897], "-05:00' is 10000-01-01)"),
    ],
)
def test_text_is_read_as_numbers_and_said(values, numbers, said):
    column = taken(values)
    assert column.numeric
    np.testing.assert_array_equal(column.values, numbers)
    assert said.replace("'1'234.5'", '"1\'234.5"') in column.note
    assert bool(column.note) == bool(said)


@pytest.mark.parametrize(
    ("values", "numbers", "said"),
    [
        ([Decimal("1.5"), None], [1.5, np.nan], "decimals, read as floats"),
        ([True, None, False], [1, np.nan, 0], "booleans, read as 1 and 0"),
        (pd.array([1, None], "Int64"), [1, np.nan], ""),
        (pd.array([True, None], "boolean"), [1, np.nan], "booleans, read as 1 and 0"),
        ([datetime.date(1970, 1, 11), None], [10, np.nan], "dates, read as days since 1970-01-01"),
        (pd.to_datetime(["1970-01-01T06"]), [0.25], "dates, read as days since 1970-01-01"),
        ([datetime.date(9999, 12, 31), None], [2932896, np.nan], f"dates, {DAYS}"),
        ([datetime.datetime(1600, 1, 1, 6)], [-135139.75], f"dates, {DAYS}"),
        (np.array(["1600-01-01", "9999-12-31"], "M8[s]"), [-135140, 2932896], f"dates, {DAYS}"),
        (np.array(["1600-01-01", "9999-12-31"], "M8[us]"), [-135140, 2932896], f"dates, {DAYS}"),
        (pd.to_timedelta(["36h"]), [1.5], "durations, read as days"),
        (["1.5", "2"], [1.5, 2], "text, read as numbers"),
    ],
)
def test_typed_columns_become_numbers_and_are_said(values, numbers, said):
    column = taken(values, separator="")
    np.testing.assert_array_equal(column.values, numbers)
    assert column.note == said


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize("of", [datetime.date, datetime.datetime])
def test_a_date_that_stands_for_never_is_read_from_any_file(tmp_path, name, of):
    ends = [of(2000 + i % 20, 1, 1) if i % 4 else of(9999, 12, 31) for i in range(ROWS)]
    frame = pd.DataFrame({"x": X, "end": ends, "y": Y})
    path = tmp_path / name
    frame.to_csv(path, index=False) if name == "t.csv" else frame.to_parquet(path)
    table = tables.load(path, "y", 64)
    assert table.names == ["x", "end"]
    assert table.features_NF[:2, 1].tolist() == [2932896, 11323]


def test_another_column_or_the_separator_decides_what_can_be_read_in_two_ways():
    both = {"a": ["1,234", "5,678"], "b": ["1.234", "5.678"]}

    def first(separator=",", **more):
        columns = take(pd.DataFrame(both | more), separator)
        return columns["a"].values[0], columns["b"].values[0]

    assert first() == (1234, 1.234)
    assert first(separator=";") == (1.234, 1234)
    assert first(c=["0,5", "1"]) == (1.234, 1234)
    assert first(separator=";", c=["0.5", "1"]) == (1234, 1.234)


def test_levels_are_one_hot_up_to_a_cap_which_is_said(tmp_path):
    three = load(tmp_path, kind=["ash", "elm", "oak", "elm"] * 25)
    assert three.names == ["x", "kind=ash", "kind=elm", "kind=oak"]
    assert three.features_NF[:2, 1:].tolist() == [[1, 0, 0], [0, 1, 0]]
    assert three.notes == ("column 'kind': text of 3 levels, one-hot",)
    city = [f"c{i % 25:02}" for i in range(ROWS)]
    many = load(tmp_path, city=city)
    assert len(many.names) == 1 + 20 + 1
    assert "city=c19" in many.names and "city=c20" not in many.names
    assert many.features_NF[:, many.names.index("city=(other)")].sum() == 20
    assert "one-hot for the 20 most frequent and (other) (20% of rows)" in many.notes[0]
    coded = taken(pd.Categorical([0, 1, 0]))
    assert list(coded.values) == ["0", "1", "0"] and not coded.numeric


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([f"T{i:06}" for i in range(ROWS)], "100 different texts in 100 rows"),
        ([[1.0, 2.0]] * ROWS, "holds values of type list"),
        ([{"a": 1}] * ROWS, "holds values of type dict"),
        ([None] * ROWS, "holds nothing but gaps"),
        ([1.0] * 49 + [None] * 51, "51 of 100 values are gaps"),
        ([0.1] * ROWS, "constant"),
        (["ash"] * ROWS, "constant"),
    ],
)
def test_what_tells_nothing_is_left_out_and_said(tmp_path, values, said):
    table = load(tmp_path, c=values)
    assert table.names == ["x"]
    assert any(n.startswith(f"column 'c': {said}") and n.endswith("left out") for n in table.notes)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        *[("Unnamed: 0", 0), ("id", 0), ("patientId", 0), ("tree_ID", 0), ("day", 1)],
        *[("index", 0), ("row_index", 0)],
    ],
)
def test_an_index_is_left_out_and_a_counter_by_another_name_said(tmp_path, name, kept):
    table = load(tmp_path, **{name: np.random.default_rng(0).permutation(ROWS)})
    assert (name in table.names) == kept
    words = "counts the rows, 0 to 99" if kept else "whole numbers that only tell rows apart"
    assert table.notes[0].startswith(f"column {name!r}: {words}")


def test_whole_numbers_named_an_index_stay_unless_they_count_the_rows(tmp_path):
    spread = np.random.default_rng(0).permutation(ROWS) * 3
    columns = {"price_index": spread, "Refractive Index": spread[::-1], "index": spread}
    table = load(tmp_path, **columns, case_id=spread)
    assert table.names == ["x", "price_index", "Refractive Index"]
    assert [note.split("'")[1] for note in table.notes] == ["index", "case_id"]


def test_rows_with_gaps_are_dropped_by_column_and_count(tmp_path):
    a, b = X.copy() * 2 + Y, [str(v) for v in X**2]
    a[:5], b[3:6] = np.nan, ["?"] * 3
    table = load(tmp_path, a=a, b=b)
    assert len(table.target_N) == 94
    assert "6 of 100 rows have gaps and are left out: 'a' 5, 'b' 3 ('?')" in table.notes
    a[:40], b[:90] = np.nan, [*b[6:56], *[""] * 40]
    with pytest.raises(UsageError, match="80 of 100 rows have gaps .* 'a' 40, 'b' 40"):
        load(tmp_path, a=a, b=b)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ({"a": [np.inf, -np.inf, 1e200, *X[3:]]}, "infinite values, or beyond 1e+100, in 'a' 3"),
        ({"y": [np.inf, *Y[1:]]}, "infinite values, or beyond 1e+100, in 'y' 1"),
        ({"a": Y}, "'a' gives the target 'y' away"),
        ({"a": 32 - Y / 5}, "'a' gives the target 'y' away"),
        ({"y": (Y > 0) * 1.0, "a": np.where(Y > 0, "yes", "no")}, "'a=no', 'a=yes' gives the"),
        ({"y": [1.0] * ROWS}, "at least two different values"),
        ({"y": ["ash", "elm"] * 50}, "'y' must be numeric, not text of 2 levels"),
        ({"y": [[1]] * ROWS}, "'y' must be numeric, not holds values of type list"),
        ({"x": [1.0] * ROWS}, "no feature columns are left beside 'y'; column 'x': constant"),
        ({"a": [*map(str, X[:97]), "<1", "n.a.", "12 kg"]}, "97 numbers, but also 3 texts"),
        ({"a": [*map(str, X[:97]), "0,1", "1,5", "2,5"]}, "not all written in the same way"),
        ({"a": ["01/02/2020", "02/01/2020"] * 50}, "can be read in more than one order of day"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, column, words):
    with pytest.raises(UsageError) as caught:
        load(tmp_path, **column)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@given(st.permutations(range(60)), st.sampled_from(["float", "comma", "level", "id", "day"]))
def test_a_decision_does_not_depend_on_the_order_of_rows(order, kind):
    made = {
        "float": [f"{i / 7:.3f}" for i in range(60)],
        "comma": [f"{i},{i % 9}" for i in range(59)] + ["?"],
        "level": [f"l{i % 25}" for i in range(60)],
        "id": [f"i{i}" for i in range(60)],
        "day": [f"{1 + i % 28}.{1 + i % 12}.2020" for i in range(60)],
    }[kind]
    straight, mixed = taken(made), taken([made[i] for i in order])
    assert (mixed.note, mixed.gaps, mixed.wrong) == (straight.note, straight.gaps, straight.wrong)
    if straight.values is not None:
        expected = straight.values.iloc[list(order)].reset_index(drop=True)
        pd.testing.assert_series_equal(mixed.values, expected)


def test_the_least_rows_are_those_that_fill_a_batch(tmp_path):
    assert tables.least_rows(64) == 91
    for rows in (90, 91):
        pd.DataFrame({"x": X, "y": Y})[:rows].to_csv(tmp_path / f"{rows}.csv", index=False)
    topic = Regression(table=str(tmp_path / "90.csv"), target="y")
    with pytest.raises(UsageError, match="90 complete rows, but at least 91 are needed"):
        topic.dataset_id()
    split = datasets.table(str(tmp_path / "91.csv"), "y", 64)
    assert len(split.train_y) == 73 and len(split.fold(0).train) == 64


def test_what_varies_in_test_rows_only_is_left_out(tmp_path):
    a, test = np.zeros(ROWS), datasets.one_in_five(ROWS)[1]
    a[test] = X[test]
    pd.DataFrame({"x": X, "a": a, "y": Y}).to_csv(tmp_path / "t.csv", index=False)
    split = datasets.table(str(tmp_path / "t.csv"), "y")
    assert split.train_x.shape == (80, 1)
    assert split.notes == ("'a' is constant over the training rows: left out",)


def test_targets_beyond_the_support_are_said_with_the_losses_that_clip_them(tmp_path):
    y = Y.copy()
    y[datasets.one_in_five(ROWS)[0][:2]] = 60, -60
    pd.DataFrame({"x": X, "y": y}).to_csv(tmp_path / "t.csv", index=False)
    (note,) = Regression(table=str(tmp_path / "t.csv"), target="y").data_notes()
    assert note.startswith("2 training and 0 test targets lie outside -4 to 4")
    assert "ce, kl, log_loss clip them" in note
    assert Regression().data_notes() == []


def test_the_data_s_name_moves_with_the_file_and_not_with_its_folder(tmp_path):
    (tmp_path / "other").mkdir()
    names = []
    for path in (tmp_path / "plot.csv", tmp_path / "other" / "plot.csv.gz"):
        pd.DataFrame({"x": X, "y": Y}).to_csv(path, index=False)
        names.append(Regression(table=str(path), target="y").dataset_id())
    assert names[0] == names[1] and names[0].startswith("plot@")
