"""Code that decides a cell's numbers is in its fingerprint, wherever it lies."""

import importlib
import importlib.util
import shutil
import sys
import types
from dataclasses import dataclass, replace

import pytest
from toy import Toy

from harness import packing, sources
from harness.cell import Budget, Cell, Status
from harness.fingerprint import code, fingerprint, imported
from harness.options import option
from harness.runs import Run
from harness.settings import Settings
from harness.topics import RL, VAE
from harness.trial.outcome import Outcome, PopulationOutcome
from harness.trial.population import PopulationTask


@pytest.fixture
def hashes(tmp_path, monkeypatch):
    """What ``code_hash`` gives now, of a copy of the package."""
    shutil.copytree(code.HERE, tmp_path / "harness")
    monkeypatch.setattr(code, "HERE", tmp_path / "harness")

    def now():
        code.code_hash.cache_clear()
        return code.code_hash()

    yield now
    code.code_hash.cache_clear()


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
    with open(code.HERE / f"{module}.py", "a") as file:
        file.write("\nX = 1\n")
    assert hashes() != before


@pytest.mark.parametrize("module", ["results/tables", "execution/local", "cli", "topics/rl/agents"])
def test_a_change_elsewhere_does_not(hashes, module):
    before = hashes()
    with open(code.HERE / f"{module}.py", "a") as file:
        file.write("\nX = 1\n")
    assert hashes() == before


def test_a_topic_s_own_code_is_hashed_and_not_its_settings():
    assert code.topic_hash(RL()) != code.topic_hash(VAE())
    assert code.topic_hash(RL()) == code.topic_hash(RL(gamma=0.5))


TOPIC = """
import torch
from toy import Toy
from layers import line
from shop.parts import wheel

class Mine(Toy):
    def networks(self, cell):
        from shop import late
        importlib.import_module("shop.plugin", package=None)
        return late.make()
"""
PROJECT = {  # file: what it holds; shop has no __init__
    "mine.py": TOPIC,
    "layers/__init__.py": "from .deep import core",
    "layers/line.py": "load = lambda: importlib.import_module('.named', __package__)",
    "layers/named.py": "",
    "layers/deep/__init__.py": "",
    "layers/deep/core.py": "from .. import sibling",
    "layers/sibling.py": "",
    "shop/parts/wheel.py": "import spoke",
    "shop/late.py": "",
    "shop/plugin.py": "",
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
        code.forget()
        importlib.invalidate_caches()
        with monkeypatch.context() as patched:
            patched.syspath_prepend(root)
            kind = importlib.import_module("mine").Mine
            return code.topic_hash(kind())

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


@pytest.mark.parametrize(
    "computes",
    [
        "make = lambda name: importlib.import_module(name)",
        "make = lambda name: __import__(f'layers.{name}')",
        "spec = lambda path: importlib.util.spec_from_file_location('any', path)",
        "make = lambda target: hydra.utils.instantiate({'_target_': target})",
    ],
)
def test_a_module_that_computes_what_it_imports_has_all_of_its_project(
    own_topic, tmp_path, computes
):
    (tmp_path / "spoke.py").write_text(computes)
    beside = ["unused.py", "layers/unused.py", "src/pkg/unused.py", "new/unused.py"]
    apart = [
        "env/lib/unused.py",
        "data/images/more/unused.py",
        "a-b/unused.py",
        "layers/unused.txt",
    ]
    for name in (*beside, *apart):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    for name in (*beside, *apart):
        before = own_topic()
        (tmp_path / name).write_text("X = 1\n")
        assert (own_topic() != before) == (name in beside), name


def test_versions_of_what_it_imports_count(own_topic, tmp_path, monkeypatch):
    """scikit-learn stands for any library; pytest decides no numbers."""
    with open(tmp_path / "mine.py", "a") as file:
        file.write("\n\ndef late():\n    import sklearn.svm\n    import pytest\n")
    version, upgraded, before = code.metadata.version, {}, own_topic()
    monkeypatch.setattr(code.metadata, "version", lambda name: upgraded.get(name, version(name)))
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
    assert code.metadata.version("sklearn") == "0.0"
    assert code._distributions("sklearn") == ["scikit-learn"]
    assert code._distributions("numpy") == ["numpy"]
    assert code._distributions("nowhere") == []


def test_a_project_that_moved_is_the_same(own_topic, tmp_path, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "project"
    before = own_topic()
    shutil.copytree(tmp_path, elsewhere)
    assert own_topic(elsewhere) == before


NESTED = {
    **{f"{part}/{name}": "" for part in ("near", "far") for name in ("__init__.py", "x.py")},
    "mine.py": "import near.x, far.x\nfrom toy import Toy\n\nclass Mine(Toy):\n    pass\n",
}


def test_files_that_changed_places_are_another_hash(own_topic, tmp_path):
    for name, text in NESTED.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + f"\nX = '{name}'\n")
    before = own_topic()
    (tmp_path / "near/x.py").rename(tmp_path / "kept")
    (tmp_path / "far/x.py").rename(tmp_path / "near/x.py")
    (tmp_path / "kept").rename(tmp_path / "far/x.py")
    assert own_topic() != before


ROOT = """
import functools
from dataclasses import dataclass
import helpers
from toy import Toy

@functools.cache
def data():
    return 1

@functools.wraps(data)
def wrapped():
    return data()

@dataclass(frozen=True)
class Bare(Toy):
    width: int = 1

@dataclass(frozen=True)
class Mine(Toy):
    @property
    def size(self):
        return data()
"""


@pytest.fixture
def conftest(tmp_path, monkeypatch):
    """Load a conftest.py as pytest does where there are no packages, each in the last one's place.

    Returns the module; ``tmp_path`` is on the path.
    """
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(folder, text, name="conftest"):
        path = tmp_path / folder / "conftest.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    (tmp_path / "helpers.py").write_text("")
    yield load
    sys.modules.pop("helpers", None)
    code.forget()


def loaded_alone(load, *texts):
    """The hash of what the first of several conftests defines, by name, as in a new process."""
    sys.modules.pop("helpers", None)
    code.forget()
    first, *_ = [load(str(number), text) for number, text in enumerate(texts)]
    kinds = [getattr(first, name) for name in ("data", "wrapped", "Bare", "Mine")]
    assert all(map(sources.has_file, kinds))
    return {kind.__qualname__: code.code_of(kind) for kind in kinds}


def test_a_conftest_is_hashed_where_another_is_loaded_after_it(conftest, tmp_path):
    before = loaded_alone(conftest, ROOT, "X = 1")
    assert loaded_alone(conftest, ROOT, "X = 2") == before == loaded_alone(conftest, ROOT)
    changed = loaded_alone(conftest, ROOT + "\nX = 2\n", "X = 1")
    assert all(changed[name] != told for name, told in before.items())
    (tmp_path / "helpers.py").write_text("X = 1\n")
    imported = loaded_alone(conftest, ROOT, "X = 1")
    assert all(imported[name] != told for name, told in before.items())


def test_the_name_of_a_conftest_does_not_count(conftest):
    """Under ``--import-mode=importlib`` it is another one than ``decathlon run`` gives it."""
    here, there = conftest("exp", ROOT), conftest("exp", ROOT, "exp.conftest")
    assert there.Mine.__module__ == "exp.conftest"
    assert code.code_of(here.Mine) == code.code_of(there.Mine)


def test_what_a_script_of_a_package_imports_relatively_is_hashed(tmp_path, monkeypatch):
    """As ``python -m package.script`` runs it."""
    text = "from .near import x\nfrom toy import Toy\nclass Mine(Toy):\n    pass\n"
    files = {"__init__": "", "near": "x = 1\n", "script": text}
    (tmp_path / "parcel").mkdir()
    for name, content in files.items():
        (tmp_path / f"parcel/{name}.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    spec = importlib.util.find_spec("parcel.script")
    main = importlib.util.module_from_spec(spec)
    main.__name__ = "__main__"
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(compile(text, spec.origin, "exec"), vars(main))
    code.forget()
    before = code.code_of(main.Mine)
    (tmp_path / "parcel/near.py").write_text("x = 2\n")
    code.forget()
    assert code.code_of(main.Mine) != before
    for name in ("parcel", "parcel.near"):
        sys.modules.pop(name, None)
    code.forget()


HELPERS = "import deep\n\nWIDTH = 3\n\ndef net():\n    return 1\n\nclass Net:\n    width = 3\n"


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A notebook's module ``helpers`` and a way to edit it; ``now`` hashes as a new run would."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    found = types.SimpleNamespace()

    def edit(old, new, name="helpers"):
        path = tmp_path / f"{name}.py"
        path.write_text(path.read_text().replace(old, new))

    def now(kind):
        code.forget()
        return code.code_of(kind)

    (tmp_path / "helpers.py").write_text(HELPERS)
    (tmp_path / "deep.py").write_text("X = 1\n")
    importlib.invalidate_caches()
    found.helpers, found.edit, found.now = importlib.import_module("helpers"), edit, now
    yield found
    for name in ("helpers", "deep"):
        del sys.modules[name]
    code.forget()


def test_what_is_loaded_again_in_a_session_has_another_hash(session):
    before = {name: session.now(getattr(session.helpers, name)) for name in ("net", "Net")}
    old = session.helpers.net
    session.edit("return 1", "return 2")
    importlib.reload(session.helpers)
    after = {name: session.now(getattr(session.helpers, name)) for name in before}
    assert not set(before.values()) & set(after.values())
    assert session.now(old) not in (before["net"], after["net"])
    assert not sources.has_file(old) and sources.has_file(session.helpers.net)


def test_code_that_autoreload_replaces_in_place_has_another_hash(session):
    """It loads the module again and gives old functions the new code: topics hold the old ones."""
    net = session.helpers.net
    before = session.now(net)
    session.edit("return 1", "return 2")
    importlib.reload(session.helpers)
    net.__code__ = session.helpers.net.__code__
    assert session.now(net) == session.now(session.helpers.net) != before
    assert sources.has_file(net)


def test_what_was_edited_and_not_loaded_again_keeps_its_hash(session):
    """The old code trains, of the module itself; what it imports is read anew by a worker."""
    before = session.now(session.helpers.net)
    session.edit("WIDTH = 3", "WIDTH = 4")
    assert session.now(session.helpers.net) == before
    session.edit("X = 1", "X = 2", "deep")
    assert session.now(session.helpers.net) != before


def test_files_are_looked_at_once_in_a_run(session, monkeypatch):
    before = session.now(session.helpers.net)
    monkeypatch.setattr(imported, "imported", None)
    assert code.code_of(session.helpers.net) == before


def test_classes_that_a_topic_depends_on_are_hashed(monkeypatch):
    before = code.topic_hash(Toy())
    monkeypatch.setattr(Toy, "depends_on", lambda self: [RL])
    assert code.topic_hash(Toy()) != before


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
    code.forget()
    exec(CELLS + HELPER, vars(module))
    yield module
    code.forget()


@pytest.mark.parametrize("cell", ["WIDTH = 4", HELPER.replace("1", "2"), CELLS])
def test_what_a_class_without_a_file_uses_is_in_its_hash(notebook, cell):
    topic = notebook.Cells()
    before = code.topic_hash(topic)
    assert code.topic_hash(topic) == before
    exec(cell, vars(notebook))
    assert code.topic_hash(notebook.Cells()) != before


def test_a_class_without_a_file_has_the_same_hash_once_it_was_sent(notebook):
    topic = notebook.Cells()
    before = code.topic_hash(topic)
    packing.dumps(topic, "it")
    topic.__reduce_ex__(4)  # leaves something in the class
    assert code.topic_hash(topic) == before


def test_a_class_without_a_file_has_another_hash_in_another_process(notebook, monkeypatch):
    before = code.topic_hash(notebook.Cells())
    monkeypatch.setattr(code, "PROCESS", "another")
    assert code.topic_hash(notebook.Cells()) != before


def test_what_it_imports_of_the_project_counts(notebook, tmp_path, monkeypatch):
    (tmp_path / "beside.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    exec("import beside", vars(notebook))
    before = code.topic_hash(notebook.Cells())
    (tmp_path / "beside.py").write_text("X = 2\n")
    assert code.topic_hash(notebook.Cells()) != before


@dataclass(frozen=True)
class Placed:
    file: str | None = option(None, "a file", place=True)


def test_of_a_place_the_content_counts(tmp_path):
    for name, text in (("a", "1"), ("moved", "1"), ("other", "2")):
        (tmp_path / name).write_text(text)

    def of(name):
        return fingerprint(placed=Placed(name and str(tmp_path / name)))

    assert of("a") == of("moved") != of("other")
    assert of("") == of(None) != of("a")  # a folder says nothing


@pytest.mark.parametrize("name", ["cpu", "numpy", "torchvision", "scikit_learn", "gymnasium"])
def test_what_computes_is_in_a_cell_s_fingerprint(tmp_path, name):
    run, cell = Run(tmp_path, {"toy": Toy()}, "smoke"), Cell("toy", "line", "mse", "cosine")
    before = run.fingerprint(cell)
    assert run.environment[name]
    run.environment = run.environment | {name: "another"}
    assert run.fingerprint(cell) != before


CELL = Cell("toy", "line", "mse", "cosine")


@dataclass(frozen=True)
class Patient(Toy):
    """Has fields of its budget's, as ``Supervised`` has."""

    timeout_s: float = 60.0
    looks: int = 0

    def budget(self, profile, model):
        return Budget(20, 8, timeout_s=self.timeout_s, looks=self.looks)


@dataclass(frozen=True)
class Timed(Toy):
    """Has a field of that name which is not its budget's."""

    timeout_s: float = 1.0


@pytest.mark.parametrize(
    ("kind", "name", "counts"),
    [
        *((kind, "timeout_s", False) for kind in (Toy, Patient)),
        *((kind, "looks", True) for kind in (Toy, Patient)),
        (Timed, "timeout_s", True),
    ],
)
def test_how_long_is_waited_for_a_cell_does_not_count(tmp_path, kind, name, counts):
    def of(*given):
        told = Settings.of(given, {"toy": kind()})
        run = Run(tmp_path, told.applied({"toy": kind()}), "smoke", settings=told)
        return run, run.fingerprint(CELL)

    run, changed = of((f"toy.{name}", ["1200"]))
    assert (changed != of()[1]) == counts
    assert kind is Timed or getattr(run.keep(CELL, Outcome()).budget, name) == 1200


def test_how_long_a_cell_is_expected_to_take_does_not_count(tmp_path, monkeypatch):
    before = Run(tmp_path, {"toy": Toy()}, "smoke").fingerprint(CELL)
    budget = replace(Toy.budgets["smoke"], expected_s=7.0)
    monkeypatch.setattr(Toy, "budgets", {"smoke": budget})
    assert Run(tmp_path, {"toy": Toy()}, "smoke").fingerprint(CELL) == before


class Later:
    """An executor whose cells end when the test says so."""

    def __init__(self):
        self.waiting = []

    def submit(self, tasks):
        self.waiting += tasks

    def requeue(self, tasks, instead_of=()):
        self.waiting = [task for task in self.waiting if task not in instead_of] + tasks

    def pending(self):
        return self.waiting

    def running(self):
        return []

    def pump(self, timeout_s):
        done, self.waiting = self.waiting, []
        return [(task, self.outcome(task)) for task in done]

    def outcome(self, task):
        if isinstance(task, PopulationTask):
            return PopulationOutcome({}, separate="it does not pay")
        status = Status.DONE if task.attempt else Status.FAILED
        return Outcome(status=status)


def test_a_cell_s_fingerprint_is_that_of_when_it_was_queued(tmp_path, monkeypatch):
    """Also of one that is first in a population, then alone, then tried again."""
    run = Run(tmp_path, {"toy": Toy()}, "smoke", rerun=True, retries=1, executor=Later())
    cells = [replace(CELL, seed=seed) for seed in range(8)]
    monkeypatch.setattr(Toy, "populates", ("line",))
    before = [run.fingerprint(cell) for cell in cells]
    run.start(cells)
    assert [type(task) for task in run.executor.waiting] == [PopulationTask]
    monkeypatch.setattr(Toy, "depends_on", lambda self: [RL])
    run.finish()
    assert [run.records[cell].fingerprint for cell in cells] == before
    assert {run.records[cell].attempts for cell in cells} == {2}
    task = run.task(CELL)  # as torchrun trains it
    monkeypatch.setattr(Toy, "depends_on", lambda self: [])
    assert run.keep(task.cell, Outcome()).fingerprint not in before
    assert run.keep(task.cell, Outcome()).fingerprint == before[0]


@dataclass(frozen=True)
class Part:
    value: float = 1.0


@pytest.mark.parametrize(
    "other",
    [{"cell": Cell("t", "m", "mse", "cosine", seed=1)}, {"part": Part(2.0)}, {"more": None}],
)
def test_equal_parts_give_equal_hashes_and_others_do_not(other):
    parts = {"cell": Cell("t", "m", "mse", "cosine"), "part": Part()}
    assert fingerprint(**parts) == fingerprint(**dict(parts))
    assert fingerprint(**parts) != fingerprint(**parts | other)


def test_what_is_no_plain_value_is_refused():
    with pytest.raises(TypeError, match="object"):
        fingerprint(part=object())
