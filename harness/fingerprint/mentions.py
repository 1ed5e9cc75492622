"""Find where code names what is outside of it: in what was compiled, and in a module's text."""

from __future__ import annotations

import ast
import dis
from functools import cache
from types import CodeType
from typing import NamedTuple

Place = tuple[str, int]  # a function's name and first line

READS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
CONTAINERS = (
    *("dict", "list", "set", "int", "float", "str"),
    *("defaultdict", "OrderedDict", "Counter", "deque", "count"),
)
DYNAMIC = ("exec", "globals", "locals", "vars", "setattr")  # they set names that are not written
CHANGES = (
    *("append", "appendleft", "extend", "insert", "add", "update", "setdefault"),
    *("pop", "popitem", "popleft", "remove", "discard", "clear"),
)


class Names(NamedTuple):
    """The global names that code reads, and all names in it, those of attributes too."""

    globals: frozenset[str]
    all: frozenset[str]


@cache
def names(code: CodeType) -> Names:
    """Return the names in a function's code, with the functions and classes inside of it."""
    read = {str(one.argval) for one in dis.get_instructions(code) if one.opname in READS}
    every = {*code.co_names}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found = names(inner)
            read |= found.globals
            every |= found.all
    return Names(frozenset(read), frozenset(every))


@cache
def private(text: bytes, reached: frozenset[Place]) -> frozenset[str]:
    """Return the names in a module's text that some functions of it change, and nothing else does.

    These alone name them, but for one assignment that tells by itself what there is at first, such
    as ``cache = {}``.
    """
    try:
        inside, outside = _parted(ast.parse(text), reached)
    except (SyntaxError, ValueError):  # no Python
        return frozenset()
    if any(_named(node) & {*DYNAMIC} for node in outside):
        return frozenset()
    changed = {name for node in inside for name in _changed(node)}
    return frozenset(name for name in changed if _only_starts(outside, name))


def _only_starts(nodes: list[ast.AST], name: str) -> bool:
    starts = [node for node in nodes if _starts(node, name)]
    return len(starts) <= 1 and sum(name in _named(node) for node in nodes) == len(starts)


def _parted(tree: ast.AST, reached: frozenset[Place]) -> tuple[list[ast.AST], list[ast.AST]]:
    """Return the nodes inside of the functions reached, and all others."""
    inside: list[ast.AST] = []
    outside: list[ast.AST] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if _place(node) in reached:
            inside += ast.walk(node)
        else:
            outside.append(node)
            waiting += ast.iter_child_nodes(node)
    return inside, outside


def _place(node: ast.AST) -> Place | None:
    """Return where a function is, as its compiled code says it."""
    if isinstance(node, ast.Lambda):
        return "<lambda>", node.lineno
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return node.name, min(one.lineno for one in (node, *node.decorator_list))
    return None


def _named(node: ast.AST) -> set[str]:
    """Return what a node names: variables, attributes, imports, texts that may be used as names."""
    told = [getattr(node, part, None) for part in ("id", "attr", "value", "name", "asname")]
    return {name for name in (*told, *getattr(node, "names", ())) if isinstance(name, str)}


def _starts(node: ast.AST, name: str) -> bool:
    """Whether a node gives a name a value that is written there."""
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return False
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return len(targets) == 1 and name in _named(targets[0]) and _is_written(node.value)


def _is_written(value: ast.expr) -> bool:
    """Whether an expression is a literal, or makes a container of literals."""
    if isinstance(value, ast.Call):
        called = _named(value.func) & {*CONTAINERS}
        given = [*value.args, *(one.value for one in value.keywords)]
        return bool(called) and all(_named(one) & {*CONTAINERS} or _literal(one) for one in given)
    return _literal(value)


def _literal(value: ast.expr) -> bool:
    try:
        ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _changed(node: ast.AST) -> set[str]:
    """Return the names that a node gives another value, or something in it."""
    if isinstance(node, ast.Global):
        return {*node.names}
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
        return {node.attr} | _named(node.value)
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        return _named(node.value)
    if not isinstance(node, ast.Call):
        return set()
    if isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
        return _named(node.func.value)
    if _named(node.func) & {"next", "setattr"}:
        return {name for one in node.args for name in _named(one)}
    return set()
