"""``python -m harness compare``: what it prints and writes, and its exit codes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from frames import frame
from run_folder import GOOD, record

from harness import cli
from harness.results import compare
from harness.results.store import Store
from harness.results.verdict import Verdict

REFERENCE = Path(cli.__file__).parents[1] / "results/reference"


@pytest.fixture
def runs(tmp_path):
    """Write runs with tables only; returns their folders as text."""

    def write(*frames):
        folders = [tmp_path / name for name in ("a", "b")]
        for folder, cells in zip(folders, frames, strict=True):
            folder.mkdir()
            cells.to_csv(folder / "cells.csv", index=False)
        return [str(folder) for folder in folders]

    return write


@pytest.mark.parametrize(
    ("candidate", "verdict"),
    [
        (frame(), Verdict.SAME),
        (frame(shift=0.1), Verdict.BETTER),
        (frame(shift=-0.1), Verdict.WORSE),
        (frame().head(1), Verdict.NOT_WHOLE),
    ],
)
def test_the_exit_code_and_the_last_line(runs, capsys, candidate, verdict):
    assert cli.main(["compare", *runs(frame(), candidate)]) == verdict.exit_code
    told = capsys.readouterr()
    assert told.out.splitlines()[-1].startswith(f"verdict: {verdict} (rows: ") and not told.err


@pytest.mark.parametrize("broken", [True, False])
def test_a_reader_that_goes_away_ends_it_quietly(runs, broken):
    reads, writes = os.pipe()
    command = [sys.executable, "-m", "harness", "compare", *runs(frame(), frame())]
    process = subprocess.Popen(command, stdout=writes, stderr=subprocess.PIPE, text=True)
    os.close(writes)
    if broken:
        os.close(reads)
    else:
        with os.fdopen(reads) as told:
            assert "verdict: same" in told.read()
    assert process.communicate()[1] == "" and process.returncode == (141 if broken else 0)


def test_what_is_not_comparable_is_one_line_and_is_in_the_file_too(runs, tmp_path, capsys):
    out = tmp_path / "c.json"
    folders = runs(frame(), frame(steps=20))
    assert cli.main(["compare", *folders, "--json", str(out)]) == 2
    told = capsys.readouterr()
    assert not told.out
    (line,) = told.err.splitlines()
    assert line.startswith("decathlon: budget.steps of vgg/")
    values = json.loads(out.read_text())
    assert (values["verdict"], values["exit_code"]) == ("not comparable", 2)
    assert f"decathlon: {values['refused']}" == line and values["rows"] == []


def strict(text):
    """Parse JSON, without the NaN that Python allows."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_the_file_holds_all_of_the_comparison(runs, tmp_path, capsys):
    out = tmp_path / "deep/c.json"
    infinite = frame().assign(**{"metric.accuracy": float("inf")})
    folders = runs(infinite, frame().head(4))
    assert cli.main(["compare", *folders, "--json", str(out)]) == 1
    values = strict(out.read_text())
    assert [values["baseline"], values["candidate"]] == folders
    assert values["verdict"] == "worse" and values["exit_code"] == 1 and values["refused"] == ""
    assert values["missing"] == frame()["id"].tolist()[4:] and values["new"] == []
    assert f"(rows: {values['counts']['worse']} worse, " in capsys.readouterr().out
    assert set(values["rows"][0]) == {
        *("topic", "aspect", "baseline", "candidate", "verdict", "note", "cells")
    }
    assert [path.name for path in out.parent.iterdir()] == ["c.json"]


@pytest.mark.parametrize("name", ["folder.json", "c.txt", "a/cells.csv", "a/cells.csv/c.json"])
def test_a_file_that_cannot_be_written_is_refused_and_nothing_is_lost(runs, tmp_path, capsys, name):
    folders = runs(frame(), frame())
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "folder.json/kept").write_text("x")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert cli.main(["compare", *folders, "--json", str(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / name) in line
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_missing_run_is_one_line(tmp_path, capsys):
    assert cli.main(["compare", str(tmp_path), str(tmp_path / "none")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"decathlon: {tmp_path} holds no cells/*.json")


def test_an_unreadable_record_is_named_and_its_cell_is_missing(tmp_path, capsys):
    for name in ("a", "b"):
        for cell in GOOD:
            Store(tmp_path / name).write(record(cell))
    bad = Store(tmp_path / "b").path(GOOD[0])
    bad.write_text("{")
    assert cli.main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 3
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert str(bad) in line and GOOD[0].id in told.out


def test_help_table_and_docstrings_agree(capsys):
    with pytest.raises(SystemExit):
        cli.main(["compare", "--help"])
    told = capsys.readouterr().out
    listed = re.findall(r"^  (\w+(?: \w+){0,2})\s+(\d)  ", told, re.MULTILINE)
    assert dict(listed) == {str(v): str(v.exit_code) for v in Verdict} and len(listed) == 6
    documented = " ".join(compare.__doc__.split())
    for part in (
        "0 for *same*, *better* and *not enough evidence*",
        "1 for *worse*",
        "3 for *not whole*",
    ):
        assert part in documented
    assert "2 for *not comparable* and for bad input" in documented


@pytest.mark.parametrize(
    "folder",
    sorted({path.parent for path in REFERENCE.rglob("cells.csv")}),
    ids=lambda path: path.name,
)
def test_the_reference_is_the_same_as_itself(folder, capsys):
    assert cli.main(["compare", str(folder), str(folder)]) == 0
    assert "verdict: same" in capsys.readouterr().out


def test_damage_in_the_reference_is_found(tmp_path, capsys):
    table = pd.read_csv(REFERENCE / "cells.csv", dtype=str, keep_default_na=False)

    def verdict(**changes):
        table.assign(**changes).to_csv(tmp_path / "cells.csv", index=False)
        code = cli.main(["compare", str(REFERENCE), str(tmp_path)])
        return code, capsys.readouterr().out

    for column, times in (("metric.ece", 5), ("metric.top3", 0.5), ("metric.miou", 0.5)):
        damaged = [str(times * float(value)) if value else "" for value in table[column]]
        code, out = verdict(**{column: damaged})
        assert code == 1 and re.search(rf"^worse .* {column[7:]} ", out, re.MULTILINE)
    code, out = verdict(**{"parity.equal": table["parity.equal"].replace("True", "False")})
    assert code == 1 and re.search(r"^worse +gan +parity.equal ", out, re.MULTILINE)
    failed = table["status"].mask(table["topic"] == "vae", "failed")
    gone = {"evaluation.extractor": table["evaluation.extractor"].mask(failed == "failed", "")}
    code, out = verdict(status=failed, **gone)
    assert code == 1 and re.search(r"^worse +vae +cells ", out, re.MULTILINE)
    table = table[table["topic"] != "rl"]
    code, out = verdict()
    assert code == 3 and re.search(r"^not whole +rl +cells ", out, re.MULTILINE)
