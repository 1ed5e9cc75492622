"""Tables as people have them."""

import pytest

from harness.cell import UsageError
from harness.topics import datasets
from harness.topics.regression import Regression


def test_a_table_file_is_read_and_a_bad_one_named(tmp_path):
    path = tmp_path / "t.csv"
    rows = "\n".join(f"{i},{'ab'[i % 2]},{i * i}" for i in range(40))
    path.write_text(f"n,kind,y\n{rows}\n")
    assert datasets.table(str(path), "y").train_x.shape == (32, 3)
    with pytest.raises(UsageError, match="unknown target column 'yy': choose from y"):
        datasets.table(str(path), "yy")
    with pytest.raises(UsageError, match="must be numeric"):
        datasets.table(str(path), "kind")


def test_a_table_and_its_target_need_each_other():
    with pytest.raises(UsageError, match="^--target price needs --table FILE$"):
        Regression(target="price").dataset_id()
    with pytest.raises(UsageError, match="^--table t.csv needs --target COLUMN$"):
        Regression(table="t.csv").dataset_id()
