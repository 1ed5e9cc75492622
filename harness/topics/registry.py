"""Find the topics that installed packages provide, by entry point."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from harness.training.topic import Topic


def registered_topics(**options: Any) -> dict[str, Topic]:
    """Return the topics registered under the entry point group ``harness.topics``, by name.

    options are set on every topic that has a field of that name; None leaves the default.
    """
    topics = {}
    for point in entry_points(group="harness.topics"):
        kind = point.load()
        fields = kind.__dataclass_fields__
        chosen = {k: v for k, v in options.items() if k in fields and v is not None}
        topics[kind.name] = kind(**chosen)
    return topics
