"""Hash what decides a cell's numbers: on one machine, equal hashes mean equal numbers."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import inspect
import json
import sys
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Protocol

from harness import packing

HERE = Path(__file__).parent
DECIDING = ("axes", "checkpoint", "training", "trial")  # rooms; a topic's own folder beside them
STDLIB = Path(ast.__file__).resolve().parent
INSTALLED = ("site-packages", "dist-packages")
PROCESS = uuid.uuid4().hex

_taken: dict[Path, tuple[list[object], bytes]] = {}  # a module's code objects, and its text then


class Topic(Protocol):
    """What is asked of a topic here."""

    def depends_on(self) -> list[Any]:
        """Return classes and functions from elsewhere whose code decides its numbers too."""


@cache
def code_hash() -> str:
    """Hash all code in the rooms that decide a cell's numbers, whatever the topic."""
    shared = (HERE / "topics").glob("*.py")  # what topics share, and those of a single file
    files = [*shared, *(path for room in DECIDING for path in (HERE / room).rglob("*.py"))]
    named = sorted((str(path.relative_to(HERE)), path) for path in files)
    return _hash((name, path.read_bytes()) for name, path in named)


def topic_hash(topic: Topic, own: Sequence[object] = ()) -> str:
    """Hash the code of a topic and of what it depends on, with all that they import.

    own: what was brought to the axes and decides its numbers: the code of that counts too.

    Imports are found in the sources, at any depth, also inside of functions. What is installed
    counts by its version only, but for the packages of these classes themselves. Of a script all
    counts. Where a file lies and what its module is called do not count. Classes without a file, as
    in a notebook, have another hash in every process, and once anything they use has changed:
    nothing of theirs is reused then.
    """
    return code_of(type(topic), *topic.depends_on(), *map(type, own))


def is_own(module: str) -> bool:
    """Whether a module is a project's own: no part of this package, of Python, nor installed."""
    if module in sys.builtin_module_names or module.split(".")[0] == __name__.split(".")[0]:
        return False
    file = _file(module)
    if file is None:  # a notebook's; other modules without a file are C's
        return module == "__main__"
    return _package(file) is None and not file.is_relative_to(STDLIB)


def has_file(kind: Any) -> bool:
    """Whether a class or function is written in a file; in a notebook or at a prompt it is not.

    Nor is one whose module has another in its place by now, as after ``importlib.reload``.
    """
    return _origin(kind) is not None


def code_of(*kinds: Any) -> str:
    """Hash the code of classes and functions, with all that they import, as ``topic_hash`` does."""
    kinds = tuple(sorted(kinds, key=lambda kind: str(getattr(kind, "__qualname__", ""))))
    told = _files_hash(*kinds)
    loose = [kind for kind in kinds if not has_file(kind)]
    return _loose_hash(told, loose) if loose else told


def forget() -> None:
    """Have files looked at anew: in a notebook they may have changed since the last run."""
    for looked in (_files_hash, _file, _existing):
        looked.cache_clear()


@cache
def _files_hash(*kinds: Any) -> str:
    """Hash what is written in files. They count in the order in which they are imported."""
    texts = {file: _text(kind, file) for kind in kinds if (file := _own_origin(kind))}
    sources: dict[Path, tuple[str, bytes]] = {}
    for kind in dict.fromkeys(base for own in kinds for base in getattr(own, "__mro__", (own,))):
        file = _origin(kind)
        if file is not None:
            home = _package(file) if kind in kinds else None
            sources |= _imported(kind.__module__, file, home, texts)
    return _hash((("", text) for _, text in sources.values()), _versions(sources))


def _own_origin(kind: Any) -> Path | None:
    """Return the file of a class or function of the project; None of others."""
    return _origin(kind) if is_own(kind.__module__) else None


def _text(kind: Any, file: Path) -> bytes:
    """Return the text of a class's or function's file, of when what is in memory was loaded.

    That is what trains, for it travels by value. A file that is edited and not loaded again has the
    text that it had when it was first asked for.
    """
    scope = _scope(kind) or {}
    own = [one for one in [*scope.values()] if _home(one) == kind.__module__]
    codes = [function.__code__ for one in own for function in _functions(one)]
    state = [scope.get("__spec__"), *codes]  # the first is another after a reload
    before, text = _taken.get(file, ([], b""))
    if len(before) != len(state) or any(a is not b for a, b in zip(before, state, strict=True)):
        text = file.read_bytes()
        _taken[file] = (state, text)
    return text


def _versions(sources: Mapping[Path, tuple[str, bytes]]) -> list[str]:
    """Return the versions of the installed packages that a project's own files import.

    But for pytest's, which decides no numbers. Those of this package are in every fingerprint.
    """
    own = {path: source for path, source in sources.items() if _is_projects(path)}
    imports = (name for path, source in own.items() for name in _imports(path, *source))
    beside = {name.split(".")[0] for name, _ in own.values()} | sys.stdlib_module_names
    tops = {name.split(".")[0] for name in imports}
    tops -= {"", "pytest", __name__.split(".")[0], *beside}  # "": of what is relative to nothing
    found = {dist for name in tops for dist in _distributions(name)}
    return sorted(f"{dist}=={metadata.version(dist)}" for dist in found)


def _is_projects(path: Path) -> bool:
    """Whether a file is a module of a project, and not of an installed package."""
    return path.suffix == ".py" and not path.is_relative_to(HERE) and _package(path) is None


def _distributions(top: str) -> list[str]:
    """Return the installed distributions that bring a top-level module.

    As a rule one of its name; only else are all looked through, which takes half a second.
    """
    try:
        named = metadata.distribution(top)
    except metadata.PackageNotFoundError:
        return _by_module().get(top, [])
    brings = any(line.startswith(f"{top}/") for line in (named.read_text("RECORD") or "").split())
    return [named.name] if brings else _by_module().get(top, [])


@cache
def _by_module() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _loose_hash(told: str, kinds: Sequence[Any]) -> str:
    """Hash what is written in no file, with all that it uses and the project's modules beside it.

    It holds in this process only: a redefined class, function or value has another hash.
    """
    sources: dict[Path, tuple[str, bytes]] = {}
    for module in sorted({kind.__module__ for kind in kinds}):
        beside = vars(sys.modules.get(module, ModuleType(module))).values()
        names = {one.__name__ if isinstance(one, ModuleType) else _home(one) for one in beside}
        for name, file in ((name, _file(name)) for name in sorted(names) if name):
            if file is not None:
                sources |= _imported(name, file, None, {})
    files = _hash(sources.values())
    code = hashlib.sha256(packing.dumps(kinds, kinds[0].__qualname__)).hexdigest()
    return hashlib.sha256(f"{PROCESS} {told} {files} {code}".encode()).hexdigest()[:12]


def _home(value: object) -> str:
    """Return the name of the module that a class or function is of; empty for other values."""
    return str(getattr(value, "__module__", None) or "")


def _imported(
    module: str, file: Path, home: Path | None, texts: Mapping[Path, bytes]
) -> dict[Path, tuple[str, bytes]]:
    """Return a module and all that it imports and that counts, name and text by file.

    home: the folder of an installed package that counts too. texts: of files that are not taken as
    they are now.
    """
    found: dict[Path, tuple[str, bytes]] = {}
    waiting = [(module, file)]
    while waiting:
        name, path = waiting.pop()
        if path in found or not _counts(path, home):
            continue
        text = texts[path] if path in texts else path.read_bytes()
        found[path] = name, text
        if path.suffix == ".py" and path != HERE / "topics" / "__init__.py":  # which names them all
            others = ((other, _file(other)) for other in _imports(path, name, text))
            waiting += [(other, origin) for other, origin in others if origin is not None]
    return found


def _counts(path: Path, home: Path | None) -> bool:
    """Whether a module's code is hashed: a project's own, a topic's, or one below ``home``."""
    if path.is_relative_to(HERE):
        return path.is_relative_to(HERE / "topics")
    installed = _package(path) is not None or path.is_relative_to(STDLIB)
    return not installed or (home is not None and path.is_relative_to(home))


def _package(path: Path) -> Path | None:
    """Return the folder (or file) of the installed package that a file is of; None if of none."""
    for index, part in enumerate(path.parts):
        if part in INSTALLED:
            return Path(*path.parts[: index + 2])
    return None


def _imports(path: Path, module: str, text: bytes) -> Iterator[str]:
    """Yield the names that a module's source imports, and their packages; some are no modules."""
    package = module if path.name == "__init__.py" else _package_of(module)
    for node in ast.walk(ast.parse(text, str(path))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _package_of(module: str) -> str:
    """Return the package that a module is in, also of one that runs as ``python -m pkg.script``."""
    if module != "__main__":
        return module.rpartition(".")[0]
    main = sys.modules[module]
    spec = getattr(main, "__spec__", None)
    return str((spec.parent if spec else getattr(main, "__package__", None)) or "")


def _origin(kind: Any) -> Path | None:
    """Return the file that a class or function is written in; None if it is in none."""
    scope = _scope(kind)
    return _existing(scope.get("__file__")) if scope else None


def _scope(kind: Any) -> Mapping[str, Any] | None:
    """Return the namespace of the module in whose file a class or function is written, if any.

    Not by the module's name, which several may have: every conftest.py outside of packages is
    ``conftest``, and ``sys.modules`` has the last. But what has no code of its own is looked up.
    """
    kind = kind if hasattr(kind, "__qualname__") else type(kind)
    module, named = sys.modules.get(kind.__module__), _named(kind)
    for function in _functions(kind):
        scope = function.__globals__
        if scope.get("__name__") != kind.__module__:
            continue
        typed = function.__code__.co_filename
        if typed.startswith("<") and typed != "<string>":  # at a prompt; of a dataclass generated
            return None
        again = getattr(named, "__qualname__", None) == kind.__qualname__ and _codes(named)
        return None if again and scope is vars(module) and again != _codes(kind) else scope
    return vars(module) if module and (named is kind or "<locals>" in kind.__qualname__) else None


def _named(kind: Any) -> Any:
    """Return what a class's or function's module has under its name; None if nothing."""
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return found


def _functions(kind: Any) -> Iterator[FunctionType]:
    """Yield the functions that a class has itself, or that a function is, out of their wrappers."""
    for one in [*vars(kind).values()] if isinstance(kind, type) else [kind]:
        inner = _unwrapped(one)
        if isinstance(inner, FunctionType):
            yield inner


def _codes(kind: Any) -> set[CodeType]:
    return {function.__code__ for function in _functions(kind)}


def _unwrapped(value: Any) -> Any:
    """Return the function in a property, a method or wrappers; any other value as it is."""
    if isinstance(value, property):
        value = value.fget
    elif isinstance(value, functools.cached_property):
        value = value.func
    elif isinstance(value, classmethod | staticmethod | MethodType):
        value = value.__func__
    wrapper = isinstance(value, FunctionType | functools._lru_cache_wrapper)
    return inspect.unwrap(value) if wrapper else value


@cache
def _file(module: str) -> Path | None:
    """Return the file of a module, without importing it; None if it has none or does not exist."""
    if module in sys.modules:
        file = getattr(sys.modules[module], "__file__", None)
    else:
        package = module.rpartition(".")[0]
        where = _folders(package) if package else None
        spec = PathFinder.find_spec(module, where) if where or not package else None
        file = spec.origin if spec and spec.has_location else None
    return _existing(file)


@cache
def _existing(file: str | None) -> Path | None:
    """Return a file's place, links resolved; None if it is not there."""
    return Path(file).resolve() if file and Path(file).is_file() else None


def _folders(package: str) -> Sequence[str]:
    """Return the folders of a package's modules, without importing it; none if it is no package."""
    if package in sys.modules:
        return list(getattr(sys.modules[package], "__path__", []))
    above = package.rpartition(".")[0]
    where = _folders(above) if above else None
    spec = PathFinder.find_spec(package, where) if where or not above else None
    return list(spec.submodule_search_locations or []) if spec else []


def _hash(files: Iterable[tuple[str, bytes]], more: Iterable[str] = ()) -> str:
    """Hash files by their names, as given, and their contents; and more text."""
    sha = hashlib.sha256("".join(f"{text};" for text in more).encode())
    for name, content in files:
        sha.update(f"{name} {len(content)};".encode())
        sha.update(content)
    return sha.hexdigest()[:12]


def fingerprint(**parts: object) -> str:
    """Hash named parts that together decide a cell's numbers, to 12 hex digits.

    Dataclasses and plain values only, else TypeError; equal parts give equal fingerprints on every
    machine. Dataclasses count as ``counted`` says.
    """

    def plain(value: object) -> object:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return counted(value)
        raise TypeError(f"{type(value).__name__} has no place in a fingerprint")

    text = json.dumps(parts, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def counted(value: Any, without: Collection[str] = ()) -> dict[str, Any]:
    """Return what counts of a dataclass in a fingerprint: its name and fields, but some.

    Of a field declared as a place (``options.option``) a file's content counts, not where it lies;
    a folder does not count. A field that came ``later`` counts where it is not its default.
    """
    fields = dataclasses.asdict(value)
    for one in dataclasses.fields(value):
        if one.metadata.get("place"):
            fields[one.name] = _content(fields[one.name])
        if one.name in without or (one.metadata.get("later") and fields[one.name] == one.default):
            del fields[one.name]
    return {"": type(value).__qualname__, **fields}


def _content(place: object) -> str | None:
    """Return a hash of the file at a place; None for a folder or nothing."""
    path = Path(place).resolve() if isinstance(place, str) else None
    if path is None or not path.is_file():
        return None
    stat = path.stat()
    return _content_hash(path, stat.st_mtime_ns, stat.st_size)


@cache
def _content_hash(path: Path, modified_ns: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
