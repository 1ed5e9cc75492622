"""What the package exports, what importing it costs, and that it works without its repository."""

import json
import os
import shlex
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import harness
from harness import topics
from harness.cell import Cell
from harness.runs import Run
from harness.topics.registry import registered_topics

ROOT = Path(__file__).parents[1]
CELL = "regression/linear-mse-cosine-single-s0"


@pytest.mark.parametrize("package", [harness, topics], ids=lambda p: p.__name__)
def test_every_public_name_is_there(package):
    assert sorted(package.__all__) == sorted(set(package.__all__))
    for name in package.__all__:
        assert getattr(package, name).__name__ == name or name in ("Batch", "Networks")
    assert dir(package) == sorted(package.__all__)


def test_a_topic_of_one_s_own_gets_each_form_of_its_cell_s_loss_from_the_package():
    assert harness.categorical("ce", 3).width == 1 and harness.numeric("mse", -1, 1).width == 1
    assert harness.pixel_form("ce", 17).width == 17
    assert isinstance(harness.adversarial_loss("hinge"), harness.AdversarialLoss)


@pytest.mark.parametrize("package", [harness, topics], ids=lambda p: p.__name__)
def test_other_names_are_no_attributes(package):
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        package.Nothing  # noqa: B018


@pytest.mark.parametrize(
    "module", ["harness", "harness.topics", "harness.options", "harness.topics.options"]
)
def test_importing_it_imports_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("built")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return folder


def test_the_wheel_has_all_of_the_package_and_the_experiments_with_tests(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = [path for path in (ROOT / "harness").rglob("*") if path.is_file()]
    code = {str(p.relative_to(ROOT)) for p in files if "__pycache__" not in p.parts}
    tests = {f"harness/experiments/{path.name}" for path in ROOT.glob("experiments/test_*.py")}
    assert names == code | tests | {"harness/experiments/__init__.py"}
    for name in ("py.typed", "rates/shipped.csv", "topics/generators/weights/digits-net.pt"):
        assert f"harness/{name}" in names
    assert "harness/results/dashboard/page.html.j2" in names and len(tests) > 10


def test_the_source_distribution_has_the_tests_and_the_experiments(built):
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tests/test_package.py", "tests/toy.py", "experiments/test_vgg.py"} <= names
    assert {"pyproject.toml", "constraints.txt", "results/reference/cells.csv"} <= names


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Run a program of an environment with the wheel and what it needs, without this repository."""
    folder, empty = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("empty")
    venv.create(folder)
    python = folder / "bin/python"
    (site,) = folder.glob("lib/*/site-packages")
    needed = [path for path in sys.path if path.endswith("-packages")]
    (site / "needed.pth").write_text("\n".join(needed))  # whose own .pth files are not read
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps"]
    (wheel,) = built.glob("*.whl")
    subprocess.run([*pip, "--no-index", wheel], check=True, capture_output=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def call(program, *words):
        command = [str(folder / "bin" / program), *words]
        done = subprocess.run(command, cwd=empty, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call.site, call.empty = site, empty
    return call


def test_installed_it_trains_what_is_built_in_in_an_empty_folder(installed):
    where = installed("python", "-c", "import harness; print(harness.__file__)")
    assert Path(where.strip()).is_relative_to(installed.site)
    before = {path for path in installed.site.rglob("*") if path.suffix != ".pyc"}
    said = installed("decathlon", "run", "--profile", "smoke", "-k", "regression and linear", "-v")
    assert f"test_regression.py::test_regression[{CELL}] PASSED" in said and "2 passed" in said
    assert "warning" not in said
    for name in ("index.html", "cells.csv", "cells.parquet", "summary.csv", "curves.parquet"):
        assert (installed.empty / "results/smoke" / name).stat().st_size > 0
    after = {path for path in installed.site.rglob("*") if path.suffix != ".pyc"}
    assert {path.name for path in after - before} <= {"__pycache__"}
    (kept,) = installed.empty.glob("results/smoke/cells/*-single-*.json")
    record = json.loads(kept.read_text())
    own = Run(installed.empty / "own", registered_topics(), "smoke").fingerprint(Cell.parse(CELL))
    assert record["fingerprint"] == own  # the same training, wherever it is installed
    assert "bit for bit" in installed(*shlex.split(record["command"]))
