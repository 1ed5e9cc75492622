"""Find what a module imports, at any depth, in its source: nothing is imported for it."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.sources import HERE, STDLIB, file_of, installed_in

# calls that import what their first argument names, and those that import from a place
BY_NAME = ("import_module", "__import__", "run_module", "get_class", "get_object", "instantiate")
BY_PLACE = ("spec_from_file_location", "run_path", "walk_packages", "iter_modules")

Sources = dict[Path, tuple[str, bytes]]  # a module's name and text by its file


def imported(module: str, file: Path, home: Path | None, texts: Mapping[Path, bytes]) -> Sources:
    """Return a module and all that it imports, as far as its code is hashed, name and text by file.

    One that computes what it imports has all modules of its project, for it may be any of them.
    home: the folder of an installed package that counts too. texts: of files that are not taken as
    they are now.
    """
    found: Sources = {}
    waiting = [(module, file)]
    while waiting:
        name, path = waiting.pop()
        if path in found or not _counts(path, home):
            continue
        text = texts[path] if path in texts else path.read_bytes()
        found[path] = name, text
        if path.suffix == ".py" and path != HERE / "topics" / "__init__.py":  # which names them all
            tree = ast.parse(text, str(path))
            others = ((other, file_of(other)) for other in _imports(path, name, tree))
            waiting += [(other, place) for other, place in others if place is not None]
            if not path.is_relative_to(HERE) and _computes(tree):
                waiting += _project(path, name, home)
    return found


def imports(path: Path, module: str, text: bytes) -> Iterator[str]:
    """Yield the names that a module's source imports, and their packages; some are no modules."""
    return _imports(path, module, ast.parse(text, str(path)))


def _imports(path: Path, module: str, tree: ast.AST) -> Iterator[str]:
    package = module if path.name == "__init__.py" else _package_of(module)
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and _called(node) in BY_NAME and _written(node):
            name = str(_written(node))
            rest = name.lstrip(".")
            above = package.split(".")[: 1 - (len(name) - len(rest)) or None]
            names = [".".join([*above, rest]) if name != rest else rest]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _computes(tree: ast.AST) -> bool:
    """Whether a module imports others by names or places that are not written in it."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any(
        _called(call) in BY_PLACE or (_called(call) in BY_NAME and _written(call) is None)
        for call in calls
    )


def _called(call: ast.Call) -> str:
    return str(getattr(call.func, "attr", None) or getattr(call.func, "id", ""))


def _written(call: ast.Call) -> str | None:
    """Return the name of a module that a call is given as it is written; None if there is none."""
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def _project(path: Path, module: str, home: Path | None) -> list[tuple[str, Path]]:
    """Return the modules below the folder that a module is imported from, or of its ``home``.

    Not those of virtual environments, nor in folders of folders without any module.
    """
    top = home or path.parents[len(module.split(".")) - (path.name != "__init__.py")]
    found = []
    for folder, folders, names in os.walk(top):  # of a single file: nothing
        inside = Path(folder)
        files = sorted(inside / name for name in names if name.endswith(".py"))
        leads = files or inside == top or inside.parent == top
        folders[:] = sorted(name for name in folders if leads and _may_hold(inside / name))
        for file in files:
            parts = file.relative_to(top).with_suffix("").parts
            found.append((".".join(part for part in parts if part != "__init__"), file))
    return found


def _may_hold(folder: Path) -> bool:
    return folder.name.isidentifier() and not (folder / "pyvenv.cfg").exists()


def _counts(path: Path, home: Path | None) -> bool:
    """Whether a module's code is hashed: a project's own, a topic's, or one below ``home``."""
    if path.is_relative_to(HERE):
        return path.is_relative_to(HERE / "topics")
    installed = installed_in(path) is not None or path.is_relative_to(STDLIB)
    return not installed or (home is not None and path.is_relative_to(home))


def _package_of(module: str) -> str:
    """Return the package that a module is in, also of one that runs as ``python -m pkg.script``."""
    if module != "__main__":
        return module.rpartition(".")[0]
    main = sys.modules[module]
    spec = getattr(main, "__spec__", None)
    return str((spec.parent if spec else getattr(main, "__package__", None)) or "")
