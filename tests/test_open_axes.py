"""A project outside brings values to every axis by its conftest, or a package by entry points."""

import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CONFTEST = (
    (HERE / "toy.py").read_text()
    + (HERE / "brought.py").read_text()
    + """

class Deep(Toy):
    models = ("line",)

    def forms(self, model):
        return ("numeric",)

    def networks(self, cell):
        return {"model": mlp(losses.numeric(cell.loss, -4, 4).width)}

def pytest_decathlon_topics():
    return [Deep()]

def pytest_decathlon_losses():
    return [Focal(), LogCosh()]

def pytest_decathlon_schedules():
    return Restarts()

def pytest_decathlon_optimizers():
    return [NoBiasDecay()]

def pytest_decathlon_parallel():
    return [Tensors()]
"""
)
EXPERIMENT = """
import pytest

@pytest.mark.decathlon(topic="toy")
def test_toy(record):
    record.check()
"""
CHOSEN = " or ".join(
    (
        "line-log_cosh-restarts-single-s0",
        "line-focal-restarts-single-s0",
        "line-mse-no_bias_decay-single-s0",
        "line-mse-cosine-tensors-s0",
    )
)


@pytest.fixture
def project(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_own=EXPERIMENT)
    return pytester


def run(project, *more):
    asked = ("--profile", "full", "--seeds", "1", "-k", CHOSEN)
    return project.runpytest_subprocess(*asked, *more, "-p", "no:xdist")


def rows(project):
    with open(project.path / "results/full/cells.csv") as file:
        return {
            f"{row['loss']}-{row['schedule']}-{row['parallel']}": row
            for row in csv.DictReader(file)
        }


def test_its_values_are_trained_skipped_kept_and_replayed(project):
    ended = run(project).parseoutcomes()
    assert (ended["passed"], ended["skipped"]) == (3, 1)
    found = rows(project)
    assert found.pop("focal-restarts-single")["reason"] == (
        "focal has no numeric form, which line needs"
    )
    assert {row["status"] for row in found.values()} == {"done"}
    assert found["mse-cosine-tensors"]["parity.equal"] == "True"
    page = (project.path / "results/full/index.html").read_text()
    assert "log_cosh" in page and "no_bias_decay" in page
    (record,) = (project.path / "results/full/cells").glob("*log_cosh*.json")
    words = shlex.split(json.loads(record.read_text())["command"])
    again = subprocess.run(
        [sys.executable, *words[1:]], cwd=project.path, capture_output=True, text=True
    )
    assert "the same numbers, bit for bit" in again.stdout, again.stderr


def test_a_change_of_its_code_or_fields_trains_it_again(project):
    def reused():
        return next(line for line in run(project).outlines if "reused" in line)

    run(project)
    assert "reused: 3 of 3" in reused()
    project.makeconftest(CONFTEST.replace("steps // 4", "steps // 5"))
    assert "reused: 0 of 3" in reused()  # one file: its code is every value's


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("return Restarts()", "return Restarts", "Restarts * is a class: give an instance"),
        ('"log_cosh"', '"ce"', "loss LogCosh * is named 'ce', which is built in"),
        ('name = "restarts"', 'name = "no_bias_decay"', "is the name of an optimizer and of a sch"),
    ],
)
def test_what_is_declared_wrong_costs_a_line_and_code_2(project, old, new, told):
    project.makeconftest(CONFTEST.replace(old, new))
    result = run(project)
    result.stdout.fnmatch_lines([f"*decathlon: *{told}*"])
    assert result.ret == 2 and "Traceback" not in result.stdout.str()
    assert not (project.path / "results").exists()


def test_an_optimizer_that_leaves_parameters_out_costs_a_line_a_cell(project):
    forgets = CONFTEST.replace(', {"params": others, "weight_decay": 0.0}', "")
    project.makeconftest(forgets)
    text = run(project).stdout.str()
    assert "failed: UsageError: optimizer no_bias_decay leaves out model.0.bias" in text
    assert "Traceback" not in text


def test_a_package_brings_values_by_entry_point(project, monkeypatch):
    site = project.mkdir("site")
    (site / "mine.py").write_text((HERE / "brought.py").read_text())
    info = site / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[harness.losses]\nfocal = mine:Focal\nbroken = mine:Nothing\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=":")
    project.makeconftest("")
    project.makepyfile(test_own=EXPERIMENT.replace("toy", "vgg"))
    asked = ("--seeds", "1", "--plan")
    result = project.runpytest_subprocess("--profile", "full", *asked, "-k", "vgg11-focal-cosine")
    result.stdout.fnmatch_lines(["train vgg/vgg11-focal-cosine-single-s0: about *"])
    result.stdout.fnmatch_lines(
        ["*loss broken is left out: its entry point mine:Nothing of mine is*"]
    )
