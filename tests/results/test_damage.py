"""One damaged file costs the report nothing but itself, and is named."""

import errno
import json
import os
import re

import pandas as pd
import pytest
import run_folder as made
from run_folder import BAD, DEEP, EXACT, GOOD, changed, replaced

from harness.cell import Cell, UsageError
from harness.cli import main
from harness.results.report import write_report
from harness.results.store import Store


@pytest.fixture
def run(tmp_path):
    made.make(tmp_path)
    return tmp_path


def page(folder):
    """Write the report; return the words of the page without its scripts, and what was said."""
    said = []
    html = write_report(folder, said.append).read_text()
    assert len(html) < 7e6
    kept = re.sub(r"<(style|script)\b.*?</\1>", "", html, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", kept).split()), said


def ids(folder):
    return set(pd.read_parquet(folder / "cells.parquet")["id"])


SECTIONS = {
    "parity.csv": "Is a parallel training single's?",
    "scaling.csv": "Scaling of gan/dcgan",
    "resharding.csv": "Saved under one configuration, loaded under another: gan/dcgan",
    "benchmark.json": "vgg/vgg11",
}


def test_a_run_without_damage_shows_all_and_says_nothing(run):
    words, said = page(run)
    assert not said and "Damaged" not in words
    assert ids(run) == {cell.id for cell in [*GOOD, BAD]}
    assert all(section in words for section in SECTIONS.values())
    assert f"{BAD.id} score 0.5" in words
    assert {p.name for p in (run / "cells").iterdir()} == {
        Store(run).path(cell).name for cell in [*GOOD, BAD]
    }


def of_another_cell(path):
    path.write_bytes((path.parent / Store(path).path(GOOD[0]).name).read_bytes())


RECORDS = {
    "empty": replaced(b""),
    "cut": made.cut,
    "binary": replaced(bytes(range(256))),
    "zeros": replaced(b"\0" * 4096),
    "no UTF-8": replaced(b'{"id": "\xff\xfe"}'),
    "a list": replaced(b"[]"),
    "null": replaced(b"null"),
    "a number": replaced(b"1" * 400),
    "a number beyond Python's limit": replaced(b"1" * 5000),
    "HTML": replaced(b"<html></html>"),
    "deep JSON": replaced(DEEP),
    "deep JSON in a field": changed(environment=json.loads("[" * 300 + "]" * 300)),
    "a folder": made.a_folder,
    "a pipe": made.fifo,
    "a link to nothing": made.link_to_nothing,
    "a link to itself": made.link_in_a_circle,
    "too large": made.huge,
    "of another cell": of_another_cell,
    "no fields": replaced(b"{}"),
    "metrics a list": changed(metrics=[1.0]),
    "metrics a text": changed(metrics="0.9"),
    "a metric a text": changed(metrics={"score": "0.9"}),
    "a metric null": changed(metrics={"score": None}),
    "a metric a list": changed(metrics={"score": [0.9]}),
    "a metric of 400 digits": changed(metrics={"score": 10**400}),
    "a seed of 400 digits": changed(seed=10**400),
    "an evaluation of 400 digits": changed(evaluation={"real": 10**400}),
    "a cost a text": changed(cost={"train_s": "fast"}),
    "an unknown status": changed(status="fine"),
    "an unknown direction": changed(directions={"score": "up"}),
    "directions null": changed(directions=None),
    "a reason that is a number": changed(reason=7),
    "a curve of texts": changed(curve={"step": [1], "loss": ["a"]}),
    "a curve of unequal lists": changed(curve={"step": [1.0, 2.0], "loss": [1.0]}),
    "a curve without lists": changed(curve={"step": 1.0}),
    "a curve named as the table's key": changed(curve={"id": [1.0]}),
    "a budget a list": changed(budget=[1, 2]),
    "no ranks": changed(world_size=0),
    "a step of 400 digits": changed(diverged_at=10**400),
    "a checkpoint of texts": changed(checkpoint={"bytes": "many"}),
    "a parity without its flags": changed(parity={"difference": 0.1}),
    "a parity of texts": changed(parity=EXACT | {"difference": "small"}),
    "notes a text": changed(data_notes="all"),
    "notes of numbers": changed(data_notes=[1]),
    "samples a list": changed(samples=["a.png"]),
    "another id": changed(id="vgg/vgg11"),
    "a topic that is a path": changed(topic="../../x"),
    "a newer version": changed(version=2),
    "a newer version's field": changed(energy={"joules": 3.0}),
}


@pytest.mark.parametrize("damage", RECORDS.values(), ids=RECORDS.keys())
def test_a_damaged_record_is_named_and_all_others_are_shown(run, damage):
    path = Store(run).path(BAD)
    damage(path)
    words, said = page(run)
    assert len(said) == 1 and said[0].startswith(f"{path} ") and len(said[0]) <= 500
    assert said[0].isprintable() and path.name in words
    assert ids(run) == {cell.id for cell in GOOD}
    assert os.path.lexists(path) and not (run / "cells/set_aside").exists()


@pytest.mark.parametrize("name", SECTIONS)
def test_a_damaged_side_file_is_named_and_all_else_is_shown(run, name):
    made.cut(run / name)
    words, said = page(run)
    assert len(said) == 1 and said[0].startswith(f"{run / name} is not shown")
    assert {n for n, section in SECTIONS.items() if section not in words} == {name}
    assert (run / name).stat().st_size


def test_a_picture_outside_the_runs_folder_is_named_and_not_shown(run):
    (run.parent / "secret.png").write_bytes(made.png())
    changed(samples={"grid": "../secret.png"})(Store(run).path(BAD))
    words, said = page(run)
    assert len(said) == 1 and f"../secret.png, the picture of {BAD.id}, is not shown" in said[0]
    assert "data:image/png" not in (run / "index.html").read_text().split("<script")[0]
    assert ids(run) == {cell.id for cell in [*GOOD, BAD]} and "Damaged files" in words


ODD = {
    "a reason with a surrogate": {"status": "failed", "reason": "no file /data/\udcff.csv"},
    "surrogates everywhere": {
        **dict.fromkeys(("traceback", "dataset", "command", "profile", "started"), "\udcff"),
        **{"evaluation": {"\udcff": "\udcff"}, "environment": {"cpu": "\udcff"}},
        **{"data_notes": ["\udcff"], "status": "diverged"},
    },
    "control characters": {"status": "failed", "reason": "\x1b[31mred\0\r\x07"},
    "a reason of 20 MB": {"status": "failed", "reason": "x" * 20_000_000},
    "a traceback of 20 MB": {"status": "failed", "reason": "x", "traceback": "x" * 20_000_000},
    "a skip's reason of 20 MB": {"status": "skipped", "reason": "x " * 10_000_000},
    "a divergence's reason of 20 MB": {"status": "diverged", "reason": "x" * 20_000_000},
    "an evaluation of 20 MB": {"evaluation": {"how": "x" * 20_000_000}},
    "an evaluation of lists": {"evaluation": {"real": [1, [2]], "confusion": {"a": [1]}}},
    "numbers at the ends": {"metrics": {"score": 1.7e308}, "cost": {"train_s": -1e308}},
    "numbers that are none": {
        "metrics": {"score": float("nan")},
        "baseline": {"score": float("inf")},
        "curve": {"step": [1.0], "loss": [float("-inf")], "lr": [float("nan")]},
    },
    "the largest integers": {"seed": 1, "diverged_at": 2**63 - 1, "evaluation": {"real": -(2**63)}},
    "no numbers": {"metrics": {}, "curve": {}, "cost": {}, "checkpoint": {}, "directions": {}},
    "empty names": {"metrics": {"": 1.0}, "directions": {"": "min"}, "curve": {"": [1.0]}},
    "another type than the others": {"environment": {"cpu": True, "cores": "two", "torch": [2]}},
    "notes without an end": {"data_notes": [f"note {i}" for i in range(10_000)]},
}


@pytest.mark.parametrize("fields", ODD.values(), ids=ODD.keys())
def test_an_odd_record_is_shown_within_bounds(run, fields):
    path = Store(run).path(BAD)
    values = json.loads(path.read_text()) | fields
    cell = BAD
    if fields.get("seed"):
        cell = Cell(BAD.topic, BAD.model, BAD.loss, BAD.schedule, seed=1)
        path.unlink()
    Store(run).path(cell).write_text(json.dumps(values | {"id": cell.id}))
    words, said = page(run)
    assert not said and len(words) < 150_000
    assert ids(run) == {cell.id for cell in [*GOOD, cell]}
    for name in ("cells.csv", "index.html"):
        assert not re.search("[\x00\x1b\ud800-\udfff]", (run / name).read_text())


def test_many_damaged_files_are_counted(run):
    for number in range(40):
        (run / f"cells/{number:02}.json").write_text("")
    words, said = page(run)
    assert len(said) == 21 and said[-1] == "and 20 more"
    assert "00.json" in words and "and 20 more" in words


def test_nothing_but_damage_is_named_in_one_line(run, capsys):
    for path in (run / "cells").iterdir():
        path.write_text("{")
    with pytest.raises(UsageError, match=r"holds no records.*is no record.*and 1 more"):
        write_report(run)
    assert main(["report", str(run)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_line_says_what_is_damaged(run, capsys):
    Store(run).path(BAD).write_text("{")
    (run / "parity.csv").write_text("")
    assert main(["report", str(run)]) == 0
    told = capsys.readouterr()
    assert told.out == f"{run / 'index.html'}\n"
    lines = told.err.splitlines()
    assert len(lines) == 2 and all(line.startswith(f"decathlon: {run}") for line in lines)


def test_a_runs_folder_may_have_a_name_that_is_no_text(run, capsys):
    odd = run.parent / os.fsdecode(b"r\xffn")
    run.rename(odd)
    assert main(["report", str(odd)]) == 0
    assert r"r\udcffn" in capsys.readouterr().out
    assert (odd / "index.html").exists()


def test_a_full_disk_is_named_in_one_line(run, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("harness.files.os.replace", full)
    assert main(["report", str(run)]) == 2
    told = capsys.readouterr()
    assert told.err == f"decathlon: {run} cannot be written to: No space left on device\n"
