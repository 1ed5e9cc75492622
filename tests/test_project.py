"""A record's command runs as it stands in the project it came from, conftest and all."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness import project
from harness.cell import UsageError

CONFTEST = (Path(__file__).parent / "toy.py").read_text() + (
    "\n\ndef pytest_decathlon_topics():\n    return [Toy()]\n"
)
EXPERIMENT = """
import pytest

@pytest.mark.decathlon(topic="toy")
def test_toy(record):
    record.check()
"""
FULL = """

import errno
from harness.results.store import Store

kept = Store.write

def write(self, record):
    if record.cell.model == "dropout":
        raise OSError(errno.ENOSPC, "No space left on device")
    return kept(self, record)

Store.write = write
"""


@pytest.fixture
def inner(pytester):
    """A project whose conftest lies in a folder below, with a run in a folder of an odd name."""
    folder = pytester.mkdir("inner")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_own.py").write_text(EXPERIMENT)
    return folder


def run(pytester, *arguments):
    asked = ("inner/test_own.py", "--profile", "smoke", "--run-dir", "out/run 1", *arguments)
    return pytester.runpytest_subprocess(*asked, "-p", "no:xdist")


def harness(folder, *words):
    command = [sys.executable, "-m", "harness", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_replay_and_evaluate_know_the_project_s_topics(pytester, inner):
    run(pytester, "-k", "line-mse-cosine-single").assert_outcomes(passed=1, deselected=2)
    (path,) = (pytester.path / "out/run 1/cells").glob("*.json")
    record = json.loads(path.read_text())
    command = shlex.split(record["command"])
    assert command[:3] == ["python", "-m", "harness"]
    done = harness(pytester.path, *command[3:])
    assert done.returncode == 0 and "the same numbers, bit for bit" in done.stdout, done.stderr
    done = harness(pytester.path, "evaluate", record["id"], "--run-dir", "out/run 1")
    assert f"mse {record['metrics']['mse']:.6g}\n" in done.stdout, done.stderr
    record["dataset"] = "toy@1"
    path.write_text(json.dumps(record))
    done = harness(pytester.path, "evaluate", record["id"], "--run-dir", "out/run 1")
    assert done.returncode == 2 and "was trained on toy@1, and this is toy@0" in done.stderr


def test_a_full_disk_ends_the_run_in_one_line_and_keeps_what_was_written(pytester, inner):
    with open(inner / "conftest.py", "a") as file:
        file.write(FULL)
    result = run(pytester)
    text = result.stdout.str() + result.stderr.str()
    assert result.ret == 2 and "Traceback" not in text and "INTERNALERROR" not in text
    result.stdout.fnmatch_lines(
        ["*run 1 cannot be written (No space left on device): its * records are kept*"]
    )
    assert not list((pytester.path / "out/run 1/cells").glob("*dropout*"))


def test_a_conftest_that_cannot_be_loaded_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conftest.py").write_text("import nothing_of_this_name")
    (tmp_path / "environment.json").write_text('{"project": ["conftest.py"]}')
    with pytest.raises(UsageError, match="conftest cannot be loaded: .*nothing_of_this_name"):
        project.topics(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"project": 1}', '{"project": ["gone"]}', "\x00"])
def test_a_run_that_does_not_say_its_project_has_the_folder_s(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "environment.json").write_text(text)
    assert "vgg" in project.topics(tmp_path)
