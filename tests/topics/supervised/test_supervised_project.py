"""A model and data of one's own in another project, as its author would write and run it."""

import importlib
import json
import subprocess
import sys

import pytest

from harness import fingerprint
from harness.cell import Cell
from harness.runs import Run
from harness.sources import is_own

CELL = Cell("mine", "mlp", "ce", "cosine")

CONFTEST = """
from sklearn.datasets import load_digits
from torch import nn
from harness import Supervised

def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))

def digits():
    x, y = load_digits(return_X_y=True)
    return x.astype("float32"), y

def pytest_decathlon_topics():
    return [Supervised("mine", models={"mlp": mlp}, data=digits, task="classification")]
""".replace("WIDTH", "16")
EXPERIMENT = """
import pytest

@pytest.mark.decathlon(topic="mine")
def test_mine(record):
    record.check()
    assert record.metrics["accuracy"] > record.baseline["accuracy"]
"""


@pytest.fixture
def project(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_mine=EXPERIMENT)

    def run(*arguments):
        return pytester.runpytest_subprocess("--profile", "smoke", "-p", "no:xdist", *arguments)

    run.path = pytester.path
    return run


def record(project):
    path = project.path / "results/smoke/cells/mine--mlp-ce-cosine-single-s0.json"
    return json.loads(path.read_text())


def test_it_trains_under_ddp_too_and_is_evaluated(project):
    project().assert_outcomes(passed=2)
    kept = record(project)
    assert kept["status"] == "done" and kept["dataset"].startswith("digits@")
    assert "a fifth (359 of 1797 samples) is the test part" in kept["data_notes"][0]
    page = (project.path / "results/smoke/index.html").read_text()
    assert "mine" in page and "mlp" in page
    cell = ("mine/mlp-ce-cosine-single-s0", "--profile", "smoke")
    done = subprocess.run(
        [sys.executable, "-m", "harness", "evaluate", *cell],
        cwd=project.path,
        capture_output=True,
        text=True,
    )
    assert f"accuracy {kept['metrics']['accuracy']:.6g}" in done.stdout, done.stderr


@pytest.fixture
def fingerprint_of(tmp_path, monkeypatch):
    """The fingerprint that a new process would find for a conftest of this text, in this folder."""

    def found(text, folder="here"):
        home = tmp_path / folder
        home.mkdir(exist_ok=True)
        (home / "shop.py").write_text(text)
        sys.modules.pop("shop", None)
        fingerprint.forget()
        importlib.invalidate_caches()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "dont_write_bytecode", True)
            patched.syspath_prepend(home)
            (topic,) = importlib.import_module("shop").pytest_decathlon_topics()
            return Run(tmp_path / "run", {"mine": topic}, "smoke").fingerprint(CELL)

    yield found
    sys.modules.pop("shop", None)


def test_models_data_metrics_and_settings_count_and_not_where_files_lie(fingerprint_of):
    before = fingerprint_of(CONFTEST)
    assert fingerprint_of(CONFTEST, "elsewhere") == before
    metric = "\ndef right(p, t):\n    return 1.0\n"
    own = 'task="classification", metrics={"right": (right, "max")})'
    measured = fingerprint_of(CONFTEST.replace('task="classification")', own) + metric)
    changed = [
        fingerprint_of(CONFTEST.replace("nn.ReLU()", "nn.Tanh()")),
        fingerprint_of(CONFTEST.replace('.astype("float32"), y', '.astype("float32") / 16, y')),
        fingerprint_of(CONFTEST.replace('"classification"', '"classification", batch_size=32')),
        measured,
        fingerprint_of(
            CONFTEST.replace('task="classification")', own) + metric.replace("1.0", "2.0")
        ),
    ]
    assert len({before, *changed}) == 1 + len(changed)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"mlp": mlp', '"mlp": lambda: mlp()', "models['mlp'] is a lambda, which no other process"),
        (
            "nn.Linear(16, 10)",
            "nn.Linear(16, 5)",
            "(2, 5) for x of shape (2, 64), float32: (2, 10)",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(project, old, new, message):
    assert old in CONFTEST
    (project.path / "conftest.py").write_text(CONFTEST.replace(old, new))
    result = project()
    out = result.stdout.str() + result.stderr.str()
    assert result.ret == 2 and message in out and "Traceback" not in out
    assert not (project.path / "results").exists()


def test_what_is_installed_is_not_a_project_s_own():
    assert is_own(__name__)
    assert not any(map(is_own, ("torch.nn", "json", "sys", "harness.cell", "torchvision.models")))
