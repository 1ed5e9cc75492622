"""Command-line options that are declared as fields of dataclasses."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cell import UsageError


def option(default: Any, text: str, metavar: str | None = None, place: bool = False) -> Any:
    """Make a dataclass field that is a command-line option too, ``--its-name``, with its help.

    place: it says where something is, not what: a fingerprint then takes a file's content.
    """
    told = {"help": text, "metavar": metavar, "place": place}
    return dataclasses.field(default=default, metadata=told)


LEAST = {"retries": 0} | dict.fromkeys(
    ("world_size", "accumulate", "seeds", "timeout", "minutes", "per_gpu"), 1
)


@dataclass(frozen=True)
class RunOptions:
    """The options of a run, apart from which cells. Raises UsageError for too small a number."""

    profile: str = option("quick", "how much: smoke, quick (default), race or full")
    run_dir: str | None = option(None, "where the run goes (results/PROFILE)", "DIR")
    world_size: int = option(2, "ranks of parallel cells", "N")
    accumulate: int = option(1, "parts that a rank takes a batch in", "N")
    rerun: bool = option(False, "train again what is done already")
    retries: int = option(0, "of cells that fail", "N")
    seeds: int | None = option(None, "of quick's recipes (1), of full (3)", "N")
    minutes: int | None = option(None, "that a race may take", "M")
    executor: str = option("local", "where cells run: local (default) or ray")
    compile: bool = option(False, "compile populations' steps")
    timeout: int | None = option(None, "seconds after which a cell is given up", "S")
    device: str | None = option(None, "cpu or cuda (a GPU where there is one)")
    per_gpu: int = option(1, "trainings that share a GPU", "N")
    rates: str | None = option(None, "a table of rates, as tune writes it", "FILE")

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name.replace('_', ' ')} {value}: it must be {least} or more")


@dataclass(frozen=True)
class SettingOptions:
    """What topics and their budgets are set to, as ``harness.settings`` reads it."""

    set: tuple[str, ...] = option((), "a topic's field; several are swept", "TOPIC.FIELD=V[,V]")


@dataclass(frozen=True)
class AxisOptions:
    """Values of axes that are chosen, each a name or several with commas between them."""

    model: str | None = option(None, "only these models", "NAME[,NAME]")
    loss: str | None = option(None, "only these losses", "NAME[,NAME]")
    schedule: str | None = option(None, "only these schedules", "NAME[,NAME]")
    parallel: str | None = option(None, "only these configurations", "NAME[,NAME]")
    precision: str | None = option(None, "fp32, tf32, bf16 or compiled", "NAME[,NAME]")


@dataclass(frozen=True)
class PlanOptions:
    """The option to run nothing."""

    plan: bool = option(False, "show cells, skips and cost; run nothing")


# those that ``replay`` must be told again
REPEATED = ("world_size", "accumulate", "rates", "device")


# settings by which a project has pytest run its tests, and which do not hold for cells
FOR_TESTS = ("addopts", "filterwarnings")
# what pytest is told where we start it; our own modules are loaded before it could rewrite them
TO_PYTEST = (
    *(f"-o{name}=" for name in FOR_TESTS),
    "-Wignore::pytest.PytestAssertRewriteWarning",
    "-Wignore:No files were found in testpaths",
    "-oempty_parameter_set_mark=skip",  # a test of a topic none of whose cells is chosen
)


def flag(name: str, prefix: str = "") -> str:
    """Return a field's name as it is written on a command line, ``--its-name``."""
    return f"--{prefix}{name.replace('_', '-')}"


def add(
    add_option: Callable[..., Any],
    kinds: Iterable[type],
    only: Iterable[str] | None = None,
    prefix: str = "",
    dest: str = "",
) -> None:
    """Add the options of dataclasses to a parser, each once; with ``only``, just those so named.

    add_option: argparse's ``add_argument`` or pytest's ``addoption``. prefix: of the flags; dest:
    of the names under which the parser keeps their values. What is not given is None.
    """
    for name, kind in fields(kinds).items():
        if only is not None and name not in only:
            continue
        told: dict[str, Any] = {"dest": f"{dest}{name}", "help": kind.metadata["help"]}
        if isinstance(kind.default, bool):
            add_option(flag(name, prefix), action="store_true", default=None, **told)
        elif isinstance(kind.default, tuple):
            metavar = kind.metadata["metavar"]
            add_option(flag(name, prefix), action="append", metavar=metavar, **told)
        else:
            number = {"type": int} if kind.type in ("int", "int | None") else {}
            metavar = kind.metadata["metavar"] or name.upper()
            add_option(flag(name, prefix), metavar=metavar, **told, **number)


def given(chosen: object, kinds: Iterable[type], dest: str = "") -> dict[str, Any]:
    """Return the options that a command line gave, by field name. chosen: a parser's namespace."""
    values = {name: getattr(chosen, f"{dest}{name}", None) for name in fields(kinds)}
    return {name: value for name, value in values.items() if value is not None}


def places(kinds: Iterable[type]) -> list[str]:
    """Return the names of the options that say where something is."""
    return [name for name, kind in fields(kinds).items() if kind.metadata["place"]]


def run_folder(chosen: object) -> Path:
    """Return the folder of the run that a command line is about, ``results/PROFILE`` if not said.

    chosen: a parser's namespace.
    """
    told = RunOptions(**given(chosen, [RunOptions]))
    return Path(told.run_dir or Path("results") / told.profile)


def repeated(chosen: object, defaults: Collection[str] = ()) -> dict[str, Any]:
    """Return the run options that ``replay`` must be told again, by name.

    Those that are not as usual, and of ``defaults``, a project's own, those that have a value.
    """
    usual, found = RunOptions(), {}
    for name in REPEATED:
        value = getattr(chosen, name)
        if value != getattr(usual, name) or (name in defaults and value is not None):
            found[name] = value
    return found


def arguments(values: Mapping[str, Any]) -> str:
    """Return options as text that a shell reads back, a space before each; True is a bare flag."""
    words = []
    for name, value in values.items():
        words += [flag(name)] if value is True else [flag(name), shlex.quote(str(value))]
    return "".join(f" {word}" for word in words)


def fields(kinds: Iterable[type]) -> dict[str, dataclasses.Field]:
    """Return by name the fields of dataclasses that are options."""
    every = (one for kind in kinds for one in dataclasses.fields(kind))
    return {one.name: one for one in every if "help" in one.metadata}
