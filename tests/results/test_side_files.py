"""Side files of a run: each is read as it was written, and what is damaged is refused."""

import json
import re

import pandas as pd
import pytest
import run_folder as made
from run_folder import BENCHMARK, png

from harness.results import side_files
from harness.results.report import write_report

READ = {
    "parity.csv": lambda folder: side_files.study(folder, "parity"),
    "scaling.csv": lambda folder: side_files.study(folder, "scaling"),
    "resharding.csv": lambda folder: side_files.study(folder, "resharding"),
    "benchmark.json": side_files.benchmark,
}


@pytest.fixture
def run(tmp_path):
    made.make(tmp_path)
    return tmp_path


def test_what_was_written_is_read(run):
    parity = READ["parity.csv"](run).to_dict("records")
    assert parity == [
        {
            "topic": "gan",
            "model": "dcgan",
            "parallel": "ddp",
            "ranks": 2,
            "steps": 2,
            "reason": pytest.approx(float("nan"), nan_ok=True),
        }
        | {"difference": 1e-7, "exact": True, "equal": True}
    ]
    assert READ["scaling.csv"](run)["speedup"].tolist() == [1.0]
    assert READ["resharding.csv"](run)["state_equal"].tolist() == [True]
    assert READ["benchmark.json"](run).to_dict("records") == [
        {"name": BENCHMARK["name"], "stats.median": 0.05, "extra_info.samples_per_s": 9.0}
    ]
    assert side_files.picture(run, "samples/bad.png") == png()


@pytest.mark.parametrize("name", READ)
def test_there_may_be_none(run, name):
    (run / name).unlink()
    with pytest.raises(FileNotFoundError):
        READ[name](run)


DAMAGE = {
    "empty": made.replaced(b""),
    "cut": made.cut,
    "binary": made.replaced(bytes(range(256)) + b"\n"),
    "a folder": made.a_folder,
    "a pipe": made.fifo,
    "no UTF-8": made.replaced(b"topic,model\n\xff\xfe,x\n"),
    "other columns": made.replaced(b"a,b\n1,2\n"),
    "too large": made.huge,
    "deep JSON": made.replaced(made.DEEP),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("name", READ)
def test_a_damaged_file_is_refused(run, name, damage):
    damage(run / name)
    with pytest.raises(ValueError):
        READ[name](run)


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("parity.csv", "difference", "small"),
        ("parity.csv", "exact", "perhaps"),
        ("parity.csv", "ranks", "two"),
        ("parity.csv", "topic", ""),
        ("scaling.csv", "state_mb", "x"),
        ("scaling.csv", "ranks", "1" * 400),
        ("resharding.csv", "state_equal", ""),
        ("resharding.csv", "saved_ranks", "1.5"),
    ],
)
def test_a_wrong_value_in_a_studys_table_is_refused(run, name, column, value):
    pd.read_csv(run / name, dtype=str).assign(**{column: value}).to_csv(run / name, index=False)
    with pytest.raises(ValueError):
        READ[name](run)


@pytest.mark.parametrize("name", ["null", "nan", "None", "NA"])
def test_a_name_that_looks_like_nothing_is_a_name(run, name):
    table = pd.read_csv(run / "parity.csv").assign(model=name, steps=None, difference=float("nan"))
    table.to_csv(run / "parity.csv", index=False)
    found = READ["parity.csv"](run)
    assert found["model"].tolist() == [name]
    assert found[["reason", "steps", "difference"]].isna().all(axis=None)


def test_a_long_text_in_a_studys_table_is_cut(run):
    table = pd.read_csv(run / "parity.csv").assign(reason="x" * 100_000)
    table.to_csv(run / "parity.csv", index=False)
    assert READ["parity.csv"](run)["reason"].str.len().max() <= 2000


@pytest.mark.parametrize(
    ("benchmarks", "says"),
    [
        (None, "got `null`"),
        ({}, "got `object`"),
        ([None], "got `null`"),
        (["x"], "got `str`"),
        ([{}], "missing required field `name`"),
        ([BENCHMARK | {"name": 3}], "got `int`"),
        ([BENCHMARK | {"stats": []}], "got `array`"),
        ([BENCHMARK | {"stats": {"median": "fast"}}], "got `str`"),
        ([BENCHMARK | {"extra_info": {"step_ms": "x"}}], "got `str`"),
        ([BENCHMARK | {"extra_info": {"flops_per_step": 10**400}}], "more than 64 bits"),
        ([BENCHMARK | {"extra_info": {"a": json.loads("[" * 50 + "]" * 50)}}], "nested deeper"),
    ],
)
def test_a_wrong_value_in_the_benchmarks_is_refused(run, benchmarks, says):
    (run / "benchmark.json").write_text(json.dumps({"benchmarks": benchmarks}))
    with pytest.raises(ValueError, match=re.escape(says)):
        READ["benchmark.json"](run)


def outside(run):
    (run.parent / "secret.png").write_bytes(png())
    return "../secret.png"


def absolute(run):
    outside(run)
    return str(run.parent / "secret.png")


def by_a_link(run):
    (run / "link.png").symlink_to(run / outside(run))
    return "link.png"


def kept_as(data):
    def write(run):
        (run / "odd.png").write_bytes(data)
        return "odd.png"

    return write


PICTURES = {
    "outside": (outside, "outside the run's folder"),
    "absolute": (absolute, "outside the run's folder"),
    "by a link": (by_a_link, "outside the run's folder"),
    "a folder": (lambda run: "samples", "is no file"),
    "not there": (lambda run: "samples/none.png", "no such file"),
    "no name": (lambda run: "x\0y", "null byte"),
    "a long name": (lambda run: "x" * 1000, "File name too long"),
    "empty": (kept_as(b""), "no whole PNG"),
    "text": (kept_as(b"secret"), "no whole PNG"),
    "cut": (kept_as(png()[:-10]), "no whole PNG"),
    "too large": (kept_as(png() + b"\0" * 7_000_000 + b"IEND"), "6,000,000 are allowed"),
    "too many pixels": (kept_as(png(1_000_000, 8)), "1,000,000 x 8 pixels"),
    "no pixels": (kept_as(png(0, 0)), "0 x 0 pixels"),
}


@pytest.mark.parametrize(("name", "says"), PICTURES.values(), ids=PICTURES.keys())
def test_what_is_no_picture_of_the_run_is_refused(run, name, says):
    with pytest.raises(ValueError, match=says):
        side_files.picture(run, name(run))


def test_speeds_of_an_earlier_version_are_those_of_one_process(tmp_path):
    path = tmp_path / "speed.csv"
    path.write_text("topic,model,round,step_ms,yardstick_ms\nvgg,vgg11,0,2.0,1.0\n")
    found = side_files.study(tmp_path, "speed")
    assert found["process"].tolist() == [0] and found["step_ms"].tolist() == [2.0]
    assert found["small_ms"].isna().all() and "yardstick_ms" not in found
    path.write_text(path.read_text().replace("step_ms", "steps"))
    with pytest.raises(ValueError, match="it has no column step_ms"):
        side_files.study(tmp_path, "speed")


def test_throughput_measured_alone_has_a_page(tmp_path):
    (tmp_path / "benchmark.json").write_text(json.dumps({"benchmarks": [BENCHMARK]}))
    assert "vgg/vgg11" in write_report(tmp_path).read_text()
