"""Find the topics that installed packages provide by entry point, and add a project's own."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from harness.axes.axis import described
from harness.axes.registry import left_out, listed
from harness.cell import UsageError
from harness.training.declaration import check
from harness.training.topic import Topic

GROUP = "harness.topics"
NEEDED = "a list of topics is needed, or one topic"


def registered_topics(**options: Any) -> dict[str, Topic]:
    """Return the installed topics by name, as ``installed_topics`` does; warn of broken ones."""
    topics, broken = installed_topics(**options)
    for line in broken:
        warnings.warn(line, stacklevel=2)
    return topics


def installed_topics(**options: Any) -> tuple[dict[str, Topic], list[str]]:
    """Return the topics under the entry point group ``harness.topics``, and a line for each broken.

    options are set on every topic that has a field of that name; None leaves the default. An entry
    point that is broken or whose topic is declared wrong is left out, and costs itself only.
    Raises UsageError for a value of ``options`` that a topic refuses, and for two topics of a name.
    """
    topics: dict[str, Topic] = {}
    broken = []
    for point in entry_points(group=GROUP):
        try:
            kind = _topic_class(point)
        except (Exception, SystemExit) as error:  # whatever importing it raises
            broken.append(left_out("topic", point, error))
            continue
        try:
            topic = kind(**_chosen(kind, options))
        except UsageError:
            raise
        except Exception as error:
            broken.append(left_out("topic", point, error))
            continue
        try:
            check(topic)
        except UsageError as error:
            broken.append(left_out("topic", point, error))
            continue
        _add(topics, topic)
    return topics, broken


def built_in() -> set[str]:
    """Return the names of the topics that this package brings itself."""
    return {
        point.name for point in entry_points(group=GROUP) if point.module.startswith("harness.")
    }


def with_own(topics: Mapping[str, Topic], returned: Iterable[object]) -> dict[str, Topic]:
    """Return topics with those that ``pytest_decathlon_topics`` returned, once each is checked.

    returned: one value for each conftest with the hook: a list of topics, one topic or None.
    Raises UsageError for what is no topic, one that is declared wrong, and two of one name.
    """
    found = dict(topics)
    for value in returned:
        for topic in listed("pytest_decathlon_topics", value, Topic, NEEDED):
            check(topic)
            assert isinstance(topic, Topic)
            _add(found, topic)
    return found


def _topic_class(point: EntryPoint) -> type[Topic]:
    """Import an entry point's topic class. Raises TypeError if it names something else."""
    kind = point.load()
    if not (isinstance(kind, type) and issubclass(kind, Topic)):
        raise TypeError("it is no class derived from harness.Topic")
    return kind


def _chosen(kind: type[Topic], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options that a topic has a field for and that are given."""
    names = {field.name for field in dataclasses.fields(kind) if field.init}
    return {name: v for name, v in options.items() if name in names and v is not None}


def _add(topics: dict[str, Topic], topic: Topic) -> None:
    """Put a topic under its name. Raises UsageError if another has it; the same may come twice."""
    other = topics.setdefault(topic.name, topic)
    if type(other) is not type(topic) or other != topic:
        raise UsageError(
            f"two topics are named {topic.name!r}: {described(type(other))} and "
            f"{described(type(topic))}: give one of them another name"
        )
