"""A run's cells come back from its records, its Parquet and its CSV alike."""

import pandas as pd
import pytest
from frames import frame

from harness.cell import Budget, Cell, UsageError
from harness.results import frames, tables
from harness.results.record import Record
from harness.results.store import Store

RECORDS = [
    Record(
        Cell("gan", "dcgan", "ce", "cosine", "ddp", 3),
        "f",
        "done",
        dataset="t@0123456789ab",
        command="=1+1",
        world_size=2,
        budget=Budget(3, 8, samples=5),
        metrics={"fid": 0.1 + 0.2, "accuracy": float("inf")},
        baseline={"fid": float("nan"), "accuracy": 1e-300},
        directions={"fid": "min", "accuracy": "max"},
        evaluation={"extractor": "net@1", "real": 9, "why": "-x", "whole": True, "share": 0.25},
        samples={"grid": "samples/1.png"},
        cost={"samples_per_s": 12.5},
        checkpoint={"state_equal": True, "resume_equal": None, "metrics_equal": False},
        parity={"difference": 0.5, "exact": False, "equal": None, "reason": "by design"},
        environment={"python": "3.12", "cpu": "7763", "threads": 1, "cores": 2},
        rate_used=0.3,
    ),
    Record(
        Cell("vgg", "vgg11", "ce", "cosine"),
        "f",
        "diverged",
        'a reason, with "quotes"\nand lines',
        traceback="nan",
        diverged_at=4,
        population=3,
        budget=Budget(3, 8),
        directions={"accuracy": "max"},
    ),
    Record(Cell("vgg", "vgg13", "ce", "cosine"), "f", "skipped", "no GPU"),
]


@pytest.fixture
def run(tmp_path):
    """A run's folder with records and tables."""
    store = Store(tmp_path)
    for record in RECORDS:
        store.write(record)
    tables.write([record.to_dict() for record in store], tmp_path)
    return tmp_path


def without(folder, *names):
    for name in names:
        if name == "cells":
            for path in (folder / "cells").glob("*.json"):
                path.unlink()
        else:
            (folder / name).unlink()


def test_all_three_give_the_same_frame(run):
    from_records, unread = frames.read(run)
    assert len(from_records) == 3 and not unread
    pd.testing.assert_frame_equal(from_records, tables.cells(r.to_dict() for r in RECORDS))
    without(run, "cells")
    (run / "cells.csv").rename(run / "kept.csv")
    pd.testing.assert_frame_equal(frames.read(run)[0], from_records)
    without(run, "cells.parquet")
    (run / "kept.csv").rename(run / "cells.csv")
    pd.testing.assert_frame_equal(frames.read(run)[0], from_records)


def test_texts_that_a_csv_keeps_from_being_formulas_come_back(run):
    expected = frames.read(run)[0]["command"].tolist()
    without(run, "cells", "cells.parquet")
    text = (run / "cells.csv").read_text().replace("'=1+1", "=1+1").replace("=1+1", "'=1+1")
    (run / "cells.csv").write_text(text)
    assert frames.read(run)[0]["command"].tolist() == expected == ["=1+1", "", ""]


def test_a_table_without_empty_columns_gets_them_back(run):
    whole = frames.read(run)[0]
    without(run, "cells", "cells.parquet")
    table = pd.read_csv(run / "cells.csv", dtype=str, keep_default_na=False)
    kept = table.drop(columns=["traceback", "population", "parity.equal", "budget.samples"])
    kept.to_csv(run / "cells.csv", index=False)
    found = frames.read(run)[0]
    assert set(whole.columns) == set(found.columns)
    assert found["parity.equal"].dtype == "boolean" and found["parity.equal"].isna().all()


def test_the_reader_needs_no_table_where_there_are_records(run):
    (run / "cells.csv").write_text("damaged")
    (run / "cells.parquet").write_text("damaged")
    assert len(frames.read(run)[0]) == 3


def test_an_unreadable_record_is_named_and_the_others_are_read(run):
    path = next((run / "cells").glob("gan*.json"))
    path.write_text("{")
    found, unread = frames.read(run)
    assert len(found) == 2 and len(unread) == 1 and str(path) in unread[0]


def test_only_unreadable_records_are_refused_though_there_are_tables(run):
    for path in (run / "cells").glob("*.json"):
        path.write_text("[]")
    with pytest.raises(UsageError, match="holds no record that can be read: .*is no record"):
        frames.read(run)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("done", "dnoe", "unknown status of gan/dcgan-ce-cosine-ddp-s3 'dnoe': choose from done"),
        ("0.25", "a quarter", None),
        ("12.5", "fast", "cost.samples_per_s of gan/.* is 'fast': it must be a number"),
        (
            ",True,,False,",
            ",yes,,False,",
            "checkpoint.state_equal of gan/.* is 'yes': it must be Tr",
        ),
        ("gan/dcgan-ce", "gan+dcgan-ce", "is no cell id"),
        ("id,topic", "name,topic", "has no id"),
    ],
)
def test_damage_in_a_table_is_named(run, old, new, said):
    without(run, "cells", "cells.parquet")
    text = (run / "cells.csv").read_text()
    assert old in text
    (run / "cells.csv").write_text(text.replace(old, new, 1))
    if said is None:
        assert "a quarter" in frames.read(run)[0]["evaluation.share"].tolist()
        return
    with pytest.raises(UsageError, match=said) as error:
        frames.read(run)
    assert str(run / "cells.csv") in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["cells.csv", "cells.parquet"])
@pytest.mark.parametrize("damage", [b"", b"\xff\xfe\x00", b"PAR1"])
def test_a_file_that_is_no_table_is_refused(tmp_path, name, damage):
    (tmp_path / name).write_bytes(damage)
    with pytest.raises(UsageError, match=f"{name} is no table of cells"):
        frames.read(tmp_path)


def test_a_folder_without_cells_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no cells/\\*.json, cells.parquet or cells.csv"):
        frames.read(tmp_path)
    with pytest.raises(UsageError, match="none is no folder"):
        frames.read(tmp_path / "none")


def test_a_plain_frame_comes_back(tmp_path):
    frame().to_csv(tmp_path / "cells.csv", index=False)
    pd.testing.assert_frame_equal(frames.read(tmp_path)[0], frame())
