"""The topics that are installed, and the hashes of the code that decides a cell's numbers."""

from __future__ import annotations

import hashlib
import inspect
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from harness.topic import Topic

DECIDING = (
    *("data", "losses", "schedules", "parallel", "training", "metrics", "estimators"),
    "randomness",
    *("checkpoint", "content", "resume", "shards"),
    *("pixels", "games", "styles", "generator", "extractor", "fid"),
    *("environments", "rollouts"),
    *("scenes", "balancing"),
    *("population", "rows", "streams", "updates"),
)


def registered_topics(**options: Any) -> dict[str, Topic]:
    """The topics under the entry point ``harness.topics``, by name.

    options are set on every topic that has a field of that name; None leaves the default.
    """
    topics = {}
    for point in entry_points(group="harness.topics"):
        kind = point.load()
        fields = kind.__dataclass_fields__
        chosen = {k: v for k, v in options.items() if k in fields and v is not None}
        topics[kind.name] = kind(**chosen)
    return topics


@cache
def code_hash() -> str:
    """A hash over the modules that decide a cell's numbers."""
    sha = hashlib.sha256()
    folder = Path(__file__).parent
    for name in DECIDING:
        sha.update((folder / f"{name}.py").read_bytes())
    return sha.hexdigest()[:12]


def topic_hash(topic: Topic) -> str:
    """A hash over the file that defines a topic."""

    return hashlib.sha256(Path(inspect.getfile(type(topic))).read_bytes()).hexdigest()[:12]
