"""Refuse, in one line, what a topic's methods return that no training can be made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from harness.cell import UsageError
from harness.training.batches import Batches
from harness.training.topic import Player, Topic

NEEDED = ("draw", "draw_share", "state_dict", "load_state_dict", "measures", "summary")


def dataset_id(topic: Topic) -> str:
    """Return a topic's name of its data. Raises UsageError if it is no text."""
    found: Any = topic.dataset_id()
    if not isinstance(found, str) or not found:
        told = repr(found) if isinstance(found, str) else _told(found)
        raise UsageError(f"topic {topic.name}: dataset_id returned {told}: text is needed")
    return found


def networks(found: Any) -> Mapping[str, nn.Module]:
    """Return networks by name. Raises UsageError for what is none."""
    if not isinstance(found, Mapping) or not found:
        raise UsageError(f"networks returned {_told(found)}: a dict of nn.Modules is needed")
    for name, network in found.items():
        if not isinstance(name, str) or not isinstance(network, nn.Module):
            raise UsageError(
                f"networks returned {name!r}: {_told(network)}; a dict of nn.Modules is needed"
            )
    return found


def players(found: Any, networks: Mapping[str, nn.Module]) -> list[Player]:
    """Return players. Raises UsageError for what is none, equal names and unknown networks."""
    made = list(found) if isinstance(found, Iterable) else []
    if not made:
        raise UsageError(f"players returned {_told(found)}: a list of Players is needed")
    for player in made:
        if not isinstance(player, Player):
            raise UsageError(f"players returned {_told(player)}: a list of Players is needed")
        if isinstance(player.networks, str):
            raise UsageError(
                f"player {player.name!r} moves networks={player.networks!r}: a tuple of names is "
                f"needed, ({player.networks!r},)"
            )
        if unknown := [name for name in player.networks if name not in networks]:
            raise UsageError(
                f"player {player.name!r} moves network {unknown[0]!r}, and networks returned "
                f"{', '.join(networks)}"
            )
    twice = [name for name, count in Counter(player.name for player in made).items() if count > 1]
    if twice:
        raise UsageError(f"players returned two of the name {twice[0]!r}: each needs its own")
    return made


def batches(found: Any) -> Batches:
    """Return a stream of batches. Raises UsageError for what is none, such as a DataLoader."""
    lacks = [name for name in NEEDED if not callable(getattr(found, name, None))]
    if lacks:
        raise UsageError(
            f"batches returned {_told(found)}, which has no {lacks[0]}: a Batches is needed, such "
            "as Shuffled"
        )
    stream: Batches = found
    return stream


def _told(value: Any) -> str:
    return f"a {type(value).__name__}" if value is not None else "None"
