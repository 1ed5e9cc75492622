"""Hash what decides a cell's numbers: on one machine, equal hashes mean equal numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from harness import imported, packing, sources, values
from harness.imported import Sources
from harness.sources import HERE

DECIDING = ("axes", "checkpoint", "training", "trial")  # rooms; a topic's own folder beside them
PROCESS = uuid.uuid4().hex


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
    counts. Where a file lies and what its module is called do not count. Values that the code of a
    file uses count too, as ``values.used`` finds them. Classes without a file, as in a notebook,
    have another hash in every process, and once anything they use has changed: nothing of theirs is
    reused then.
    """
    kinds = (type(topic), *topic.depends_on(), *map(type, own))
    code, told = code_of(*kinds), _values(*kinds).told
    return _hash((), [code, told]) if told else code


def untold(topic: Topic, own: Sequence[object] = ()) -> tuple[str, ...]:
    """Return the values that a topic's code uses and that cannot be told from others."""
    return _values(type(topic), *topic.depends_on(), *map(type, own)).untold


def code_of(*kinds: Any) -> str:
    """Hash the code of classes and functions, with all that they import, as ``topic_hash`` does."""
    kinds = tuple(sorted(kinds, key=lambda kind: str(getattr(kind, "__qualname__", ""))))
    told = _files_hash(*kinds)
    loose = [kind for kind in kinds if not sources.has_file(kind)]
    return _loose_hash(told, loose) if loose else told


def forget() -> None:
    """Have files looked at anew: in a notebook they may have changed since the last run."""
    _files_hash.cache_clear()
    _values.cache_clear()
    sources.forget()


@cache
def _files_hash(*kinds: Any) -> str:
    """Hash what is written in files. They count in the order in which they are imported."""
    texts = {file: sources.text_of(kind, file) for kind in kinds if (file := _own_origin(kind))}
    found: Sources = {}
    for kind in dict.fromkeys(base for own in kinds for base in getattr(own, "__mro__", (own,))):
        file = sources.origin(kind)
        if file is not None:
            home = sources.installed_in(file) if kind in kinds else None
            found |= imported.imported(kind.__module__, file, home, texts)
    return _hash((("", text) for _, text in found.values()), _versions(found))


@cache
def _values(*kinds: Any) -> values.Used:
    """Hash the values that code in files uses, as they are when it is first asked for."""
    kinds = tuple(sorted(kinds, key=lambda kind: str(getattr(kind, "__qualname__", ""))))
    return values.used([kind for kind in kinds if _own_origin(kind) is not None])


def _own_origin(kind: Any) -> Path | None:
    """Return the file of a class or function of the project; None of others."""
    return sources.origin(kind) if sources.is_own(kind.__module__) else None


def _versions(found: Sources) -> list[str]:
    """Return the versions of the installed packages that a project's own files import.

    But for pytest's, which decides no numbers. Those of this package are in every fingerprint.
    """
    own = {path: source for path, source in found.items() if sources.is_projects(path)}
    imports = (name for path, source in own.items() for name in imported.imports(path, *source))
    beside = {name.split(".")[0] for name, _ in own.values()} | sys.stdlib_module_names
    tops = {name.split(".")[0] for name in imports}
    tops -= {"", "pytest", __name__.split(".")[0], *beside}  # "": of what is relative to nothing
    dists = {dist for name in tops for dist in _distributions(name)}
    return sorted(f"{dist}=={metadata.version(dist)}" for dist in dists)


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
    found: Sources = {}
    for module in sorted({kind.__module__ for kind in kinds}):
        beside = vars(sys.modules.get(module, ModuleType(module))).values()
        names = {
            one.__name__ if isinstance(one, ModuleType) else sources.home_of(one) for one in beside
        }
        for name, file in ((name, sources.file_of(name)) for name in sorted(names) if name):
            if file is not None:
                found |= imported.imported(name, file, None, {})
    files = _hash(found.values())
    code = hashlib.sha256(packing.dumps(kinds, kinds[0].__qualname__)).hexdigest()
    return hashlib.sha256(f"{PROCESS} {told} {files} {code}".encode()).hexdigest()[:12]


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
