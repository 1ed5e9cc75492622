"""Settings: what the fields of topics, and of their budgets, are set to from outside.

A setting is written ``TOPIC.FIELD=VALUE``. Several values of one are swept: each of its topic's
cells is made once for each, and names the value in its id.
"""

from __future__ import annotations

import dataclasses
import shlex
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from harness import typed
from harness.cell import Budget, Cell, UsageError, unknown
from harness.training.declaration import check, check_budget
from harness.training.topic import Topic

BUDGET = ("steps", "batch_size", "samples", "timeout_s", "looks")
LARGE = 2.0**53  # a number that is kept as text, for tables would round it
WATCHING = ("timeout_s", "looks")  # settings that decide no number of a training

Given = tuple[str, Sequence[str]]  # TOPIC.FIELD, and its values as text


@dataclass(frozen=True)
class Settings:
    """The settings of a run, by topic and field, as ``typed`` writes their values.

    A field of a field is reached by a dotted path, ``optimizer.lr``. What a topic has no field for
    is its budget's (BUDGET). fixed: one value for all cells. swept: values that are compared.
    """

    fixed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    swept: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Iterable[Given], topics: Mapping[str, Topic]) -> Settings:
        """Return the settings that are given for some of these topics; a later one wins.

        Raises UsageError for an unknown topic or field and a value that the field cannot have.
        """
        fixed: dict[str, dict[str, str]] = {}
        swept: dict[str, dict[str, Sequence[str]]] = {}
        for name, values in dict(given).items():
            topic, _, path = name.partition(".")
            if topic not in topics:
                raise unknown("topic", topic, topics)
            texts = [typed.written(_value(topics[topic], path, text)) for text in values]
            if len(texts) > len(set(texts)):
                raise UsageError(f"{name}={','.join(texts)}: a value is there twice")
            if len(texts) > 1:
                swept.setdefault(topic, {})[path] = texts
            else:
                fixed.setdefault(topic, {})[path] = texts[0]
        return cls(fixed, swept)

    def applied(self, topics: Mapping[str, Topic]) -> dict[str, Topic]:
        """Return topics with the fixed values of their fields. Raises UsageError as ``topic``."""
        return {name: _replaced(topic, self.fixed.get(name, {})) for name, topic in topics.items()}

    def cells(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return cells, each once for each combination of its topic's swept values."""
        found = []
        for cell in cells:
            values = sorted(self.swept.get(cell.topic, {}).items())
            names = [name for name, _ in values]
            for texts in product(*(texts for _, texts in values)):
                pairs = tuple(zip(names, texts, strict=True))
                found.append(dataclasses.replace(cell, settings=pairs))
        return found

    def budget(self, topic: Topic, cell: Cell, whole: Budget) -> Budget:
        """Return a budget of a topic's cell with what is set; ``expected_s`` grows with the work.

        Raises UsageError for what is no budget.
        """
        texts = self.of_cell(cell)
        names = [name for name in texts if name in _budget_kinds(topic)]
        values = {name: _value(topic, name, texts[name]) for name in names}
        if not values:
            return whole
        found = dataclasses.replace(whole, **values)
        said = " ".join(f"{topic.name}.{name}={texts[name]}" for name in names)
        check_budget(f"{said}: the budget", found)
        work = found.steps * found.batch_size / whole.steps / whole.batch_size
        return dataclasses.replace(found, expected_s=whole.expected_s * work)

    def of_cell(self, cell: Cell) -> dict[str, str]:
        """Return all that a cell's fields and budget are set to, as text."""
        return {**self.fixed.get(cell.topic, {}), **dict(cell.settings)}

    def deciding(self) -> set[str]:
        """Return the topics of which something is set that decides a training's numbers."""
        return {
            topic
            for kind in (self.fixed, self.swept)
            for topic, values in kind.items()
            if set(values) - set(WATCHING)
        }

    def arguments(self, topic: str) -> str:
        """Return a topic's fixed settings as a command line has them, a space before each."""
        texts = self.fixed.get(topic, {}).items()
        return "".join(f" --set {shlex.quote(f'{topic}.{name}={text}')}" for name, text in texts)


def of_text(text: str) -> Given:
    """Return the setting that ``TOPIC.FIELD=VALUE`` or ``...=VALUE,VALUE`` says."""
    name, equals, values = text.partition("=")
    topic, _, path = name.partition(".")
    if not (equals and topic and path):
        raise UsageError(f"set {text!r}: it reads TOPIC.FIELD=VALUE, for example vgg.width=32")
    return name.strip(), [value.strip() for value in values.split(",")]


def set_topic(topic: Topic, settings: Iterable[tuple[str, str]]) -> Topic:
    """Return a topic with a cell's settings of its fields.

    Raises UsageError for one that the topic does not have or refuses.
    """
    return _replaced(topic, dict(settings))


def values(topic: Topic, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of settings for a record: numbers and flags as they are, else text."""
    found = {name: _value(topic, name, text) for name, text in texts.items()}
    return {
        name: value if isinstance(value, int | float) and abs(value) < LARGE else texts[name]
        for name, value in found.items()
    }


def _value(topic: Topic, path: str, text: str) -> Any:
    """Return a text as the value of a topic's field, or of its budget's."""
    kinds = _kinds(topic)
    if path not in kinds:
        told = [name for name, kind in kinds.items() if typed.has_text(kind)]
        raise unknown("field", path, told, topic.name)
    if not text or not text.isprintable() or "," in text:
        raise UsageError(f"{topic.name}.{path}={text!r}: a value of printable text is needed")
    try:
        return typed.read(kinds[path], text)
    except ValueError as error:
        raise UsageError(f"{topic.name}.{path}={text}: {error}") from None


def _kinds(topic: Topic) -> dict[str, Any]:
    """Return the types of all that can be set of a topic, its own fields first, by path.

    Its name, which cells are known by, cannot.
    """
    found = _fields(topic) | _budget_kinds(topic)
    found.pop("name", None)
    return found


def _budget_kinds(topic: Topic) -> dict[str, Any]:
    """Return the types of its budget's fields, but for names that the topic itself has."""
    own = {one.name for one in dataclasses.fields(topic)}
    hints = typing.get_type_hints(Budget)
    return {name: hints[name] for name in BUDGET if name not in own}


def _fields(whole: Any) -> dict[str, Any]:
    """Return the types of a dataclass's fields by name, and those of fields that are one too.

    What its ``__init__`` does not take is left out.
    """
    try:
        hints = typing.get_type_hints(type(whole))
    except Exception as error:  # a name that only a type checker imports
        raise UsageError(f"the types of {type(whole).__name__}'s fields: {error}") from None
    found: dict[str, Any] = {}
    for one in dataclasses.fields(whole):
        if not one.init:
            continue
        value = getattr(whole, one.name)
        if dataclasses.is_dataclass(value):
            found |= {f"{one.name}.{path}": kind for path, kind in _fields(value).items()}
        else:
            found[one.name] = hints[one.name]
    return found


def _replaced(topic: Topic, texts: Mapping[str, str]) -> Topic:
    """Return a topic with fields set, all at once, and checked; the budget's are left out."""
    found = {path: _value(topic, path, text) for path, text in texts.items()}
    found = {path: v for path, v in found.items() if path not in _budget_kinds(topic)}
    if not found:
        return topic
    said = " ".join(f"{topic.name}.{path}={texts[path]}" for path in found)
    try:
        made = _with(topic, found)
        check(made)
    except UsageError as error:
        raise UsageError(f"{said}: {error}") from None
    except Exception as error:  # of the topic's own code
        raise UsageError(
            f"{said}: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from None
    return made


def _with(whole: Any, found: Mapping[str, Any]) -> Any:
    """Return a dataclass with values at paths."""
    own = {path: value for path, value in found.items() if "." not in path}
    for name in {path.partition(".")[0] for path in found if "." in path}:
        inner = {
            path.removeprefix(f"{name}."): value
            for path, value in found.items()
            if path.startswith(f"{name}.")
        }
        own[name] = _with(getattr(whole, name), inner)
    return dataclasses.replace(whole, **own)
