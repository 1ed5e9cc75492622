"""Imports run one way."""

import ast
from pathlib import Path

import pytest

import harness

ROOT = Path(harness.__file__).parent
LAYERS = [
    {"cell"},
    {
        "record",
        "losses",
        "parallel",
        "measure",
        "metrics",
        "data",
        "effects",
        "games",
        "environments",
        "scenes",
        "randomness",
    },
    {
        *("schedules", "store", "extractor", "pixels", "rollouts", "improvement", "content"),
        *("transfer", "balancing"),
    },
    {"shards", "topic", "updates", "tables", "fid", "styles", "images"},
    {"checkpoint", "registry"},
    {"resume"},
    {"matrix", "training", "streams", "estimators", "compare", "dashboard", "generator"},
    {"rows"},
    {"population"},
    {"execution", "topics", "throughput"},
    {"run"},
    {"ranks", "report"},
    {"plugin", "cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "harness":
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("harness."))


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for name in imported(path):
        assert name == own or LEVEL[name] < LEVEL[own], f"{own} imports {name}"


def test_dashboard_and_tables_know_no_torch():
    for name in (
        "tables.py",
        "effects.py",
        "improvement.py",
        "transfer.py",
        "dashboard/__init__.py",
        "dashboard/figures.py",
    ):
        assert "torch" not in {
            alias.name.split(".")[0]
            for node in ast.walk(ast.parse((ROOT / name).read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
