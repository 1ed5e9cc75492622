"""Imports run one way, between rooms and inside each."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import harness

ROOT = Path(harness.__file__).parent
MODULES = {
    ".".join(("harness", *path.relative_to(ROOT).with_suffix("").parts)): path
    for path in sorted(ROOT.rglob("*.py"))
}
FLOORS = (  # a room imports from lower floors only, and nothing from its own floor's other rooms
    {"cell"},
    {"sources"},
    {"packing"},
    {"design", "files", "fingerprint", "interrupts"},
    {"rates", "typed"},
    {"options"},
    {"axes", "results", "pyproject"},
    {"checkpoint"},
    {"training"},
    {"trial", "matrix"},
    {"execution", "topics", "progress", "settings", "chosen"},
    {"conditions", "project", "restored"},
    {"runs"},
    {"studies", "screen", "plan", "race", "asked", "sinks", "hooks"},
    {"conformance"},
    {"commands"},
    {"api"},
    {"cli", "plugin"},
    {"__main__"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room(module):
    return module.split(".")[1]


def imported(source, module):
    """The modules of this package that a module's source imports, wherever it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if _is_module(name) else node.module for name in below]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "harness" and name != "harness")


def _is_module(name):
    return name in MODULES or f"{name}.__init__" in MODULES


def outside(source):
    """The top names of all else that it imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def wrong_way(source, module):
    """What a module imports from a room of its own floor or of one above."""
    own = room(module)
    return [n for n in imported(source, module) if room(n) != own and FLOOR[room(n)] >= FLOOR[own]]


@pytest.mark.parametrize("module", [name for name in MODULES if name != "harness.__init__"])
def test_rooms_import_from_lower_floors_only(module):
    assert not wrong_way(MODULES[module].read_text(), module)


def test_no_room_imports_in_a_circle():
    """A package's own modules import each other, never what the package hands on."""
    graph = {
        module: {n if n in MODULES else f"{n}.__init__" for n in imported(path.read_text(), module)}
        for module, path in MODULES.items()
        if module != "harness.__init__"
    }
    list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("harness.execution.pool", "from harness.runs import Run"),
        ("harness.execution.local", "def f():\n    from harness.topics import metrics"),
        ("harness.topics.rl.agents", "import harness.execution.local"),
        ("harness.axes.schedules", "from harness import checkpoint"),
        ("harness.results.tables", "from harness.training.loop import Training"),
    ],
)
def test_a_planted_import_is_seen(module, source):
    assert wrong_way(source, module)


@pytest.mark.parametrize(
    "name", [n for n in MODULES if n.startswith("harness.results.")], ids=lambda n: n
)
def test_results_know_no_torch(name):
    assert "torch" not in outside(MODULES[name].read_text())


@pytest.mark.parametrize("source", ["from torch import nn", "import torch.nn", "import torch"])
def test_a_planted_torch_is_seen(source):
    assert "torch" in outside(source)
