"""Hash the code that decides numbers: the harness's, a topic's, and all that this imports."""

from __future__ import annotations

import hashlib
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from harness import packing, sources
from harness.fingerprint import imported, values
from harness.fingerprint.imported import Sources
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


def topic_hash(topic: Topic, own: Sequence[object] = (), lasting: bool = False) -> str:
    """Hash the code of a topic and of what it depends on, with all that they import.

    own: what was brought to the axes and decides its numbers: the code of that counts too. lasting:
    what cannot be told from other values is left out; else the hash is another in each run.

    Imports are found in the sources, at any depth, also inside of functions. What is installed
    counts by its version only, but for the packages of these classes themselves. Of a script all
    counts. Where a file lies and what its module is called do not count. Values that the code of a
    file uses count too, as ``values.used`` finds them. Classes without a file, as in a notebook,
    have another hash in every process, and once anything they use has changed: nothing of theirs is
    reused then.
    """
    return code_of(type(topic), *topic.depends_on(), *map(type, own), lasting=lasting)


def lasting_hash(topic: Topic) -> str:
    """Hash the harness's code and a topic's, as it is from run to run whatever cannot be told."""
    return _hash((), [code_hash(), topic_hash(topic, lasting=True)])


def untold(topic: Topic, own: Sequence[object] = ()) -> tuple[str, ...]:
    """Return the values that a topic's code uses and that cannot be told from others."""
    return _values(type(topic), *topic.depends_on(), *map(type, own))[0].untold


def code_of(*kinds: Any, lasting: bool = False) -> str:
    """Hash the code of classes and functions, as ``topic_hash`` does."""
    kinds = tuple(sorted(kinds, key=lambda kind: str(getattr(kind, "__qualname__", ""))))
    code, (used, fresh) = _files_hash(*kinds), _values(*kinds)
    more = [text for text in (used.told, "" if lasting else fresh) if text]
    told = _hash((), [code, *more]) if more else code
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
def _values(*kinds: Any) -> tuple[values.Used, str]:
    """Hash the values that code in files uses, as they are when it is first asked for.

    Also return a text that no other run has, if some of them cannot be told; else an empty one.
    """
    kinds = tuple(sorted(kinds, key=lambda kind: str(getattr(kind, "__qualname__", ""))))
    used = values.used([kind for kind in kinds if _own_origin(kind) is not None])
    return used, uuid.uuid4().hex if used.untold else ""


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
