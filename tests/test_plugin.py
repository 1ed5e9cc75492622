"""The installed plugin in another repository, and bad input on the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = (Path(__file__).parent / "toy.py").read_text() + (
    "\n\ndef pytest_decathlon_topics():\n    return [Toy()]\n"
)
EXPERIMENT = """
import pytest

@pytest.mark.decathlon(topic="toy")
def test_toy(record):
    assert record.status == "done", record.reason
    assert record.metrics["mse"] < record.baseline["mse"]
    assert record.checkpoint["resume_equal"] is not False
"""


@pytest.fixture
def project(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_own=EXPERIMENT)
    pytester.makepyfile(without_ray="import sys\nsys.modules['ray'] = None")

    def run(*arguments):
        return pytester.runpytest_subprocess("--profile", "smoke", "-p", "no:xdist", *arguments)

    run.path = pytester.path
    return run


def cells(project):
    return sorted((project.path / "results/smoke/cells").glob("*.json"))


def test_a_foreign_project_adds_a_topic_and_an_experiment(project):
    result = project("-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*test_toy?toy/line-mse-cosine-ddp-s0? PASSED*"])
    assert len(cells(project)) == 3
    for name in ("index.html", "cells.csv", "cells.parquet", "curves.parquet", "summary.csv"):
        assert (project.path / "results/smoke" / name).stat().st_size > 0


def test_done_cells_are_reused_unless_rerun(project):
    project().assert_outcomes(passed=3)
    before = [path.stat().st_mtime_ns for path in cells(project)]
    project().assert_outcomes(passed=3)
    assert [path.stat().st_mtime_ns for path in cells(project)] == before
    project("--rerun").assert_outcomes(passed=3)
    assert all(
        new > old
        for new, old in zip(
            [path.stat().st_mtime_ns for path in cells(project)], before, strict=True
        )
    )


def test_k_selects_cells(project):
    project("-k", "dropout").assert_outcomes(passed=1, deselected=2)
    assert [path.name for path in cells(project)] == ["toy--dropout-mse-cosine-single-s0.json"]


def test_cells_train_beside_a_broken_file_if_pytest_is_to_go_on(project):
    (project.path / "test_broken.py").write_text("import nothing_of_this_name")
    project().assert_outcomes(errors=1)
    assert not (project.path / "results").exists()
    asked = ("--continue-on-collection-errors", "-k", "dropout")
    project(*asked).assert_outcomes(passed=1, errors=1, deselected=2)


def test_plan_shows_cost_and_runs_nothing(project):
    result = project("--plan")
    result.stdout.fnmatch_lines(
        ["train toy/line-mse-cosine-single-s0: about *", "3 cells, about *"]
    )
    assert result.ret == 0 and not (project.path / "results").exists()


def test_collect_only_runs_nothing(project):
    assert project("--collect-only").ret == 0
    assert not (project.path / "results").exists()


def test_a_corrupt_record_is_reported_and_its_cell_run_again(project):
    project().assert_outcomes(passed=3)
    cells(project)[0].write_text("{")
    result = project()
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*decathlon: *set_aside*"])
    assert json.loads(cells(project)[0].read_text())["status"] == "done"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "quik"], "unknown profile 'quik': choose from quick"),
        (["--dataset", "mnst"], "unknown dataset 'mnst': choose from mnist"),
        (["--dataset", "cifar10"], "needs --data-dir"),
        (["--dataset", "mnist", "--data-dir", "/nowhere"], "is not in /nowhere"),
        (["--world-size", "0"], "world size 0"),
        (["--table", "no.csv", "--target", "y"], "table no.csv does not exist"),
        (["--table", "no.csv"], "needs --target"),
        (["--run-dir", "test_own.py"], "is a file"),
        (["--executor", "rey"], "unknown executor 'rey': choose from ray, local"),
        (["--executor", "ray", "--compile"], "compile is for populations, which"),
        (["--profile", "smoke", "--seeds", "5"], "seeds 5 is for --profile quick or full"),
        (["--executor", "ray", "-p", "without_ray"], "pip install torch-decathlon[ray]"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(project, arguments, message):
    result = project(*arguments)
    assert result.ret == 2
    assert message in result.stdout.str() + result.stderr.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert not (project.path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "nowhere"], "nowhere holds no records"),
        (["compare", "nowhere", "nowhere"], "nowhere is no folder"),
        (["replay", "vgg"], "'vgg' is no cell id"),
        (["replay", "vg/vgg11-ce-cosine-single-s0"], "unknown topic 'vg': choose from vgg"),
        (["replay", "vgg/vgg11-cee-cosine-single-s0"], "unknown loss 'cee': choose from ce"),
        (["evaluate", "vgg/vgg11-ce-cosine-single-s0"], "there is no such file"),
    ],
)
def test_the_command_line_names_bad_input_and_exits_with_2(tmp_path, arguments, message):
    done = subprocess.run(
        [sys.executable, "-m", "harness", *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_test_fails_with_its_cell_s_own_reason(pytester):
    planted = "[Toy(misbehave='raise', at=3)]"
    pytester.makeconftest(CONFTEST.replace("[Toy()]", planted))
    pytester.makepyfile(test_own=EXPERIMENT.split("    assert")[0] + '    record.metrics["mse"]\n')
    asked = ("--profile", "smoke", "-p", "no:xdist", "-k", "line-mse-cosine-single")
    result = pytester.runpytest_subprocess(*asked)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*toy/line-mse-cosine-single-s0 failed: RuntimeError: a planted*"])
    assert "KeyError" not in result.stdout.str() and result.ret == 1
