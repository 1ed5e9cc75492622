"""A table's file in the ways that people save one."""

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cell import UsageError
from harness.topics import datasets, table_files

ROWS = 100


def frame(seed=0):
    draw = np.random.default_rng(seed)
    made = pd.DataFrame({"girth": draw.normal(size=ROWS).round(4), "height": draw.random(ROWS)})
    made["kind"] = draw.choice(["ash", "elm", "Eßche"], ROWS)
    return made.assign(**{"yield": made["girth"] * 3 - made["height"] + draw.normal(size=ROWS)})


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "plain.csv"
    frame().to_csv(path, index=False)
    return datasets.table(str(path), "yield")


@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("t.csv", {"encoding": "utf-8-sig"}, None),
        ("t.csv", {"encoding": "cp1252"}, "read as cp1252, since it is not UTF-8"),
        ("t.csv", {"encoding": "utf-16"}, "read as utf-16, since it is not UTF-8"),
        ("t.csv", {"sep": ";"}, "read with ';' between columns"),
        ("t.csv", {"sep": "|"}, "read with '|' between columns"),
        ("t.tsv", {"sep": "\t"}, None),
        ("t.csv.gz", {}, None),
        ("T.TSV.GZ", {"sep": "\t", "compression": "gzip"}, None),
        ("t.csv", {"sep": ";", "decimal": ","}, "read with ';' between columns"),
        ("t.csv", {"index": True}, "column 'Unnamed: 0': whole numbers that only tell rows apart"),
    ],
)
def test_the_same_table_saved_otherwise_is_the_same_data(tmp_path, plain, name, how, said):
    frame().to_csv(tmp_path / name, **{"index": False} | how)
    split = datasets.table(str(tmp_path / name), "yield")
    assert split.sha == plain.sha
    if said is None:
        assert split.notes == plain.notes
    else:
        assert any(note.startswith(said) for note in split.notes)


@given(st.integers(0, 1000), st.sampled_from([",", ";", "\t", "|"]), st.sampled_from(".,"))
def test_separator_and_decimal_sign_do_not_change_the_data(tmp_path_factory, seed, sep, decimal):
    folder = tmp_path_factory.mktemp("signs")
    frame(seed).to_csv(folder / "plain.csv", index=False)
    frame(seed).to_csv(folder / "other.csv", index=False, sep=sep, decimal=decimal)
    splits = [datasets.table(str(folder / f"{name}.csv"), "yield") for name in ("plain", "other")]
    assert splits[0].sha == splits[1].sha


def test_parquet_is_the_same_data_and_its_index_is_left_out(tmp_path, plain):
    frame().to_parquet(tmp_path / "t.parquet")
    assert datasets.table(str(tmp_path / "t.parquet"), "yield").sha == plain.sha
    frame().set_index(pd.RangeIndex(7, 7 + ROWS, name="day")).to_parquet(tmp_path / "i.parquet")
    split = datasets.table(str(tmp_path / "i.parquet"), "yield")
    assert split.sha == plain.sha
    assert "the file's index 'day' is left out" in split.notes


def test_columns_may_be_named_by_numbers(tmp_path):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(ROWS, 3)))
    table.to_parquet(tmp_path / "t.parquet")
    assert datasets.table(str(tmp_path / "t.parquet"), "2").train_x.shape == (80, 2)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_name_that_occurs_twice_is_refused(tmp_path, suffix):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        path.write_text("a,y,y\n1,2,3\n")
    else:
        pq.write_table(pa.table([[1.0], [2.0], [3.0]], names=["a", "y", "y"]), path)
    with pytest.raises(UsageError, match="more than one column is named 'y'"):
        table_files.read(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.xlsx", b"", "must end in .csv, .tsv, .csv.gz, .tsv.gz or .parquet"),
        ("t.csv", b"", "is empty"),
        ("t.csv", b"\n<!DOCTYPE html><html>", "is a web page"),
        ("t.csv", b"PK\x03\x04xl", "is a ZIP archive or an Excel workbook"),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", "cannot be read: .* Expected 2 fields in line 3, saw 3"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-9], "cannot be read"),
        ("t.parquet", b"PAR1", "cannot be read"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        table_files.read(tmp_path / name)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no.csv does not exist"):
        table_files.read(tmp_path / "no.csv")


def test_a_comma_within_quotes_or_a_name_is_no_separator():
    assert table_files.find_separator('a,b\n"1;2","3;4;5"\n') == ","
    assert table_files.find_separator("a;b\n0,5;1,5\n1;2,5\n") == ";"
    assert table_files.find_separator("a\n1\n") == ","
