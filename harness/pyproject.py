"""Read ``[tool.decathlon]`` of a pyproject.toml: settings, and defaults of run options."""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from harness import typed
from harness.cell import UsageError, unknown
from harness.options import RunOptions

SET = "set"  # the table of settings
PATHS = ("run_dir", "rates")  # options that are, from the folder of pyproject.toml
ONLY = {"minutes": ("race",), "seeds": ("quick", "full")}  # profiles that a default serves


@dataclass(frozen=True)
class Configured:
    """What a project sets by itself: run options by name, and settings as ``Settings`` takes them.

    A setting's name is TOPIC.FIELD; several values of it are swept.
    """

    options: dict[str, Any] = field(default_factory=dict)
    settings: list[tuple[str, Sequence[str]]] = field(default_factory=list)

    def run_options(self, told: dict[str, Any]) -> RunOptions:
        """Return the options of a run: those that are told, else the project's.

        A default of ``minutes`` is for races, one of ``seeds`` for quick and full.
        """
        profile = {"profile": RunOptions.profile, **self.options, **told}["profile"]
        usual = {n: v for n, v in self.options.items() if profile in ONLY.get(n, (profile,))}
        return RunOptions(**{**usual, **told})


def read(folder: Path) -> Configured:
    """Return the table of the pyproject.toml in a folder; nothing if there is none.

    Raises UsageError for what is no TOML, an unknown key and a value of another type.
    """
    path = folder / "pyproject.toml"
    try:
        whole = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return Configured()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    table = whole.get("tool", {}).get("decathlon", {})
    what = f"{path}: tool.decathlon"
    if not isinstance(table, dict):
        raise UsageError(f"{what} = {table!r}: a table is needed")
    kinds = typing.get_type_hints(RunOptions)
    options: dict[str, Any] = {}
    for name, value in table.items():
        if name == SET:
            continue
        if name not in kinds:
            raise unknown(f"key in {what}", name, [*kinds, SET])
        try:
            options[name] = msgspec.convert(value, kinds[name])
        except msgspec.ValidationError:
            told = f"{what}.{name} = {value!r}: it takes {typed.allowed(kinds[name])}"
            raise UsageError(told) from None
        if name in PATHS:
            options[name] = str(folder / value)
    settings = table.get(SET, {})
    if not isinstance(settings, dict):
        raise UsageError(f'{what}.{SET} = {settings!r}: a table is needed, as "vgg.width" = 32')
    return Configured(options, list(_settings(settings, "", f"{what}.{SET}")))


def _settings(table: dict[str, Any], prefix: str, what: str) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the settings of nested tables by their dotted names."""
    for name, value in table.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _settings(value, f"{path}.", what)
            continue
        if "." not in path:
            raise UsageError(f"{what}.{path} = {value!r}: it reads TOPIC.FIELD = VALUE")
        values = value if isinstance(value, list) else [value]
        if not values or not all(_plain(one) for one in values):
            raise UsageError(
                f"{what}.{path} = {value!r}: a number, a text, true or false, or a list of them "
                'to sweep, is needed; a tuple is a text, as "64+64"'
            )
        yield path, [typed.written(one) for one in values]


def _plain(value: object) -> bool:
    return isinstance(value, int | float | str) and value == value
