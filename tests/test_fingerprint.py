"""Code that decides a cell's numbers is in its fingerprint, wherever it lies."""

import importlib
import shutil
import sys
import types
from dataclasses import dataclass

import pytest
from toy import Toy

from harness import fingerprint
from harness.cell import Cell
from harness.options import option
from harness.runs import Run
from harness.topics import RL, VAE


@pytest.fixture
def hashes(tmp_path, monkeypatch):
    """What ``code_hash`` gives now, of a copy of the package."""
    shutil.copytree(fingerprint.HERE, tmp_path / "harness")
    monkeypatch.setattr(fingerprint, "HERE", tmp_path / "harness")

    def now():
        fingerprint.code_hash.cache_clear()
        return fingerprint.code_hash()

    yield now
    fingerprint.code_hash.cache_clear()


@pytest.mark.parametrize(
    "module",
    [
        *("training/topic", "training/loop", "training/population/optimizers", "trial/audit"),
        *("trial/train", "axes/losses/prediction", "axes/parallel/layout", "checkpoint/state"),
        *("topics/metrics", "topics/datasets", "trial/planted"),
    ],
)
def test_a_change_in_a_deciding_room_changes_it(hashes, module):
    before = hashes()
    with open(fingerprint.HERE / f"{module}.py", "a") as file:
        file.write("\nX = 1\n")
    assert hashes() != before


@pytest.mark.parametrize("module", ["results/tables", "execution/local", "cli", "topics/rl/agents"])
def test_a_change_elsewhere_does_not(hashes, module):
    before = hashes()
    with open(fingerprint.HERE / f"{module}.py", "a") as file:
        file.write("\nX = 1\n")
    assert hashes() == before


def test_a_topic_s_own_code_is_hashed_and_not_its_settings():
    assert fingerprint.topic_hash(RL()) != fingerprint.topic_hash(VAE())
    assert fingerprint.topic_hash(RL()) == fingerprint.topic_hash(RL(gamma=0.5))


TOPIC = """
import torch
from toy import Toy
from layers import line
from shop.parts import wheel

class Mine(Toy):
    def networks(self, cell):
        from shop import late
        return late.make()
"""
PROJECT = {  # file: what it holds; shop has no __init__
    "mine.py": TOPIC,
    "layers/__init__.py": "from .deep import core",
    "layers/line.py": "",
    "layers/deep/__init__.py": "",
    "layers/deep/core.py": "from .. import sibling",
    "layers/sibling.py": "",
    "shop/parts/wheel.py": "import spoke",
    "shop/late.py": "",
    "spoke.py": "",
    "unused.py": "",
    "layers/unused.py": "",
}


@pytest.fixture
def own_topic(tmp_path, monkeypatch):
    """A project's topic; ``now`` hashes it as a new process would."""

    def now(root=tmp_path):
        own = {"mine", "layers", "shop", "spoke"}
        for name in [name for name in sys.modules if name.split(".")[0] in own]:
            del sys.modules[name]
        for cached in (fingerprint._files_hash, fingerprint._file):
            cached.cache_clear()
        importlib.invalidate_caches()
        with monkeypatch.context() as patched:
            patched.syspath_prepend(root)
            kind = importlib.import_module("mine").Mine
            return fingerprint.topic_hash(kind())

    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return now


@pytest.mark.parametrize("name", PROJECT)
def test_all_that_an_own_topic_imports_is_hashed_at_any_depth(own_topic, tmp_path, name):
    before = own_topic()
    with open(tmp_path / name, "a") as file:
        file.write("\nX = 1\n")
    assert (own_topic() != before) == ("unused" not in name)


def test_versions_of_what_it_imports_count(own_topic, tmp_path, monkeypatch):
    """scikit-learn stands for any library; pytest decides no numbers."""
    with open(tmp_path / "mine.py", "a") as file:
        file.write("\n\ndef late():\n    import sklearn.svm\n    import pytest\n")
    version, upgraded, before = fingerprint.metadata.version, {}, own_topic()
    monkeypatch.setattr(
        fingerprint.metadata, "version", lambda name: upgraded.get(name, version(name))
    )
    upgraded["pytest"] = "99"
    assert own_topic() == before
    upgraded["scikit-learn"] = "99"
    assert own_topic() != before


def test_an_import_relative_to_nothing_is_passed_over(own_topic, tmp_path):
    before = own_topic()
    with open(tmp_path / "mine.py", "a") as file:
        file.write("\n\ntry:\n    from .nowhere import x\nexcept ImportError:\n    pass\n")
    assert own_topic() != before


def test_a_distribution_that_is_only_named_like_a_module_does_not_count(tmp_path, monkeypatch):
    """As sklearn and bs4 on PyPI, which bring nothing."""
    info = tmp_path / "sklearn-0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sklearn\nVersion: 0.0\n")
    (info / "RECORD").write_text("sklearn-0.0.dist-info/METADATA,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert fingerprint.metadata.version("sklearn") == "0.0"
    assert fingerprint._distributions("sklearn") == ["scikit-learn"]
    assert fingerprint._distributions("numpy") == ["numpy"]
    assert fingerprint._distributions("nowhere") == []


def test_a_project_that_moved_is_the_same(own_topic, tmp_path, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "project"
    before = own_topic()
    shutil.copytree(tmp_path, elsewhere)
    assert own_topic(elsewhere) == before


def test_classes_that_a_topic_depends_on_are_hashed(monkeypatch):
    before = fingerprint.topic_hash(Toy())
    monkeypatch.setattr(Toy, "depends_on", lambda self: [RL])
    assert fingerprint.topic_hash(Toy()) != before


CELLS = """
from toy import Toy
from dataclasses import dataclass
from functools import cache

WIDTH = 3

@cache
def width():
    return WIDTH

@dataclass(frozen=True)
class Cells(Toy):
    def networks(self, cell):
        return width(), helper()
"""
HELPER = "def helper():\n    return 1\n"


@pytest.fixture
def notebook(monkeypatch):
    """A main module without a file, in which cells are executed."""
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    fingerprint._file.cache_clear()
    fingerprint._files_hash.cache_clear()
    exec(CELLS + HELPER, vars(module))
    yield module
    fingerprint._file.cache_clear()
    fingerprint._files_hash.cache_clear()


@pytest.mark.parametrize("cell", ["WIDTH = 4", HELPER.replace("1", "2"), CELLS])
def test_what_a_class_without_a_file_uses_is_in_its_hash(notebook, cell):
    topic = notebook.Cells()
    before = fingerprint.topic_hash(topic)
    assert fingerprint.topic_hash(topic) == before
    exec(cell, vars(notebook))
    assert fingerprint.topic_hash(notebook.Cells()) != before


def test_a_class_without_a_file_has_another_hash_in_another_process(notebook, monkeypatch):
    before = fingerprint.topic_hash(notebook.Cells())
    monkeypatch.setattr(fingerprint, "PROCESS", "another")
    assert fingerprint.topic_hash(notebook.Cells()) != before


def test_what_it_imports_of_the_project_counts(notebook, tmp_path, monkeypatch):
    (tmp_path / "beside.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    exec("import beside", vars(notebook))
    before = fingerprint.topic_hash(notebook.Cells())
    (tmp_path / "beside.py").write_text("X = 2\n")
    assert fingerprint.topic_hash(notebook.Cells()) != before


@dataclass(frozen=True)
class Placed:
    file: str | None = option(None, "a file", place=True)


def test_of_a_place_the_content_counts(tmp_path):
    for name, text in (("a", "1"), ("moved", "1"), ("other", "2")):
        (tmp_path / name).write_text(text)

    def of(name):
        return fingerprint.fingerprint(placed=Placed(name and str(tmp_path / name)))

    assert of("a") == of("moved") != of("other")
    assert of("") == of(None) != of("a")  # a folder says nothing


@pytest.mark.parametrize("name", ["cpu", "numpy", "torchvision", "scikit_learn", "gymnasium"])
def test_what_computes_is_in_a_cell_s_fingerprint(tmp_path, name):
    run, cell = Run(tmp_path, {"toy": Toy()}, "smoke"), Cell("toy", "line", "mse", "cosine")
    before = run.fingerprint(cell)
    assert run.environment[name]
    run.environment = run.environment | {name: "another"}
    assert run.fingerprint(cell) != before


@dataclass(frozen=True)
class Part:
    value: float = 1.0


@pytest.mark.parametrize(
    "other",
    [{"cell": Cell("t", "m", "mse", "cosine", seed=1)}, {"part": Part(2.0)}, {"more": None}],
)
def test_equal_parts_give_equal_hashes_and_others_do_not(other):
    parts = {"cell": Cell("t", "m", "mse", "cosine"), "part": Part()}
    assert fingerprint.fingerprint(**parts) == fingerprint.fingerprint(**dict(parts))
    assert fingerprint.fingerprint(**parts) != fingerprint.fingerprint(**parts | other)


def test_what_is_no_plain_value_is_refused():
    with pytest.raises(TypeError, match="object"):
        fingerprint.fingerprint(part=object())
