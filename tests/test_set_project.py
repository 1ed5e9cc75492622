"""Settings and axes in a project of their own, as a stranger types them."""

import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = (
    (Path(__file__).parent / "toy.py").read_text()
    + """

@dataclass(frozen=True)
class Mine(Toy):
    name: ClassVar[str] = "mine"
    models: ClassVar[tuple[str, ...]] = ("line",)
    optimizer: OptimizerSpec = OptimizerSpec("sgd", lr=0.05)
    shift: float = 0.0

    def base_optimizer(self, model):
        return self.optimizer


def pytest_addoption(parser):
    parser.addoption("--loss", help="a project's own")


def pytest_decathlon_topics():
    return [Mine()]
"""
)
EXPERIMENT = """
import pytest

@pytest.mark.decathlon(topic="mine")
def test_mine(record):
    record.check()
"""
PYPROJECT = """
[tool.pytest.ini_options]

[tool.decathlon]
profile = "smoke"
run_dir = "out"

[tool.decathlon.set]
mine.steps = 10
mine.optimizer.momentum = 0.5
mine.optimizer.lr = [1e-3, 1e-2]
"""


@pytest.fixture
def project(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_own=EXPERIMENT)
    pytester.makepyprojecttoml(PYPROJECT)

    def run(*arguments):
        return pytester.runpytest_subprocess("-p", "no:xdist", *arguments)

    run.path = pytester.path
    return run


def harness(folder, *words):
    command = [sys.executable, "-m", "harness", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_swept_cells_train_with_other_numbers_and_replay_bit_for_bit(project):
    asked = ("--set", "mine.steps=12", "-k", "single-optimizer.lr")
    project(*asked).assert_outcomes(passed=2, deselected=2)
    paths = sorted((project.path / "out/cells").glob("*.json"))
    assert [path.name for path in paths] == [
        "mine--line-mse-cosine-single-optimizer.lr-0.001-s0.json",
        "mine--line-mse-cosine-single-optimizer.lr-0.01-s0.json",
    ]
    first, second = (json.loads(path.read_text()) for path in paths)
    assert first["metrics"]["mse"] > second["metrics"]["mse"]
    assert first["set_to"] == {"steps": 12, "optimizer.lr": 0.001, "optimizer.momentum": 0.5}
    with open(project.path / "out/cells.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["settings"] for row in rows] == ["optimizer.lr=0.001", "optimizer.lr=0.01"]
    assert [row["set.optimizer.momentum"] for row in rows] == ["0.5", "0.5"]
    page = (project.path / "out/index.html").read_text()
    assert "optimizer.lr=0.01" in page and "mse by setting" in page
    done = harness(project.path, "replay", first["id"], "--set", "mine.steps=12")
    assert "the same numbers, bit for bit" in done.stdout, done.stderr
    (project.path / "pyproject.toml").write_text("")  # the command says it all
    done = harness(project.path, *shlex.split(first["command"])[3:])
    assert done.returncode == 0 and "the same numbers, bit for bit" in done.stdout, done.stderr
    done = harness(project.path, "evaluate", second["id"], "--run-dir", "out")
    assert f"mse {second['metrics']['mse']:.6g}\n" in done.stdout, done.stderr


def test_a_replay_that_fails_again_says_why_and_is_no_success(project):
    asked = ("--set", "mine.misbehave=raise")
    project(*asked, "-k", "single and lr-0.01-").assert_outcomes(errors=1, deselected=3)
    (path,) = (project.path / "out/cells").glob("*.json")
    record = json.loads(path.read_text())
    assert record["status"] == "failed"
    done = harness(project.path, *shlex.split(record["command"])[3:])
    assert done.returncode == 1 and "the same numbers" not in done.stdout
    assert "{'status': 'failed'}" in done.stdout and record["reason"] in done.stdout


def test_a_replay_that_is_refused_says_why_in_one_line(project):
    (project.path / "conftest.py").write_text(f"{CONFTEST}\nMine.evaluate = lambda *_: {{}}\n")
    done = harness(project.path, "replay", "mine/line-mse-cosine-single-optimizer.lr-0.01-s0")
    assert (done.returncode, done.stdout.count("\n")) == (2, 1), done.stderr  # its progress
    why = "evaluate returned no 'mse', the primary metric: it returned nothing"
    assert done.stderr == f"decathlon: {why}\n"


def test_axes_are_chosen_and_a_project_s_own_option_stays_its_own(project):
    asked = ("--plan", "--loss", "x", "--decathlon-loss", "ce,kl", "--schedule", "adam")
    result = project(*asked, "--set", "mine.optimizer.lr=0.1", "--profile", "quick")
    result.stdout.fnmatch_lines(
        [
            "train mine/line-ce-adam-single-s0: about *",
            "train mine/line-kl-adam-single-s0: about *",
            "2 cells, about *",
        ]
    )


def test_a_wrong_setting_is_one_line_and_exit_code_2(project):
    result = project("--set", "mine.shfit=1")
    text = result.stdout.str() + result.stderr.str()
    says = "decathlon: unknown field 'shfit' of mine: choose from shift, "
    assert result.ret == 2 and says in text and "Traceback" not in text
    assert not (project.path / "out").exists()


def test_a_wrong_pyproject_is_one_line_and_exit_code_2_for_commands_too(project):
    (project.path / "pyproject.toml").write_text("[tool.decathlon]\nprofle = 'smoke'")
    says = "tool.decathlon 'profle': choose from profile, "
    result = project()
    assert result.ret == 2 and says in result.stdout.str()
    done = harness(project.path, "replay", "mine/line-mse-cosine-single-s0")
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1


def test_tune_takes_one_value_of_each_setting(project):
    done = harness(project.path, "tune", "-k", "mine", "test_own.py")
    assert done.returncode == 2
    assert "mine.optimizer.lr=0.001,0.01: rates are found for one value" in done.stderr
