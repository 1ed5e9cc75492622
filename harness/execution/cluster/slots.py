"""The slots that a run holds on a cluster: placed a gang at a time, kept from cell to cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from harness.execution.cluster.actor import RankActor
from harness.execution.cluster.resources import Request

CLOSE_S = 5.0


@dataclass(eq=False)
class Slot:
    """An actor on a node, held by a bundle of a placement group until the group is removed."""

    actor: Any
    group: PlacementGroup
    gpus: int


@dataclass
class Forming:
    """A placement group that has been asked for: all of its bundles at once, or none."""

    request: Request
    group: PlacementGroup
    ready: ray.ObjectRef


class Slots:
    """All slots, those idle now, and the one placement group that is asked for."""

    def __init__(self) -> None:
        self.all: list[Slot] = []
        self.idle: list[Slot] = []
        self.forming: Forming | None = None

    def take(self, request: Request) -> list[Slot]:
        """Take an idle slot for each rank; if they are too few, none, and ask for a group."""
        free = [slot for slot in self.idle if slot.gpus == request.gpus]
        if len(free) < request.ranks:
            self.form(request)
            return []
        slots = free[: request.ranks]
        self.idle = [slot for slot in self.idle if slot not in slots]
        return slots

    def form(self, request: Request | None) -> None:
        """Ask Ray for a placement group for this request and no other; None: for none at all."""
        if self.forming and self.forming.request != request:
            remove_placement_group(self.forming.group)
            self.forming = None
        if self.forming is None and request is not None:
            group = placement_group(request.bundles)
            self.forming = Forming(request, group, group.ready())

    def formed(self) -> None:
        """Take in the slots of the group that has just been placed."""
        forming = self.forming
        assert forming is not None
        self.forming = None
        gpus = forming.request.gpus
        for rank in range(forming.request.ranks):
            actor = ray.remote(RankActor).options(
                num_cpus=1,
                num_gpus=gpus,
                max_concurrency=3,
                scheduling_strategy=PlacementGroupSchedulingStrategy(forming.group, rank),
            )
            self.idle.append(Slot(actor.remote(), forming.group, gpus))
        self.all += self.idle[-forming.request.ranks :]

    def disband(self) -> None:
        """Give back the groups of which no slot is at work; their actors remove their files."""
        busy = {slot.group.id for slot in self.all if slot not in self.idle}
        leaving = [slot for slot in self.idle if slot.group.id not in busy]
        if closing := [slot.actor.close.remote() for slot in leaving]:
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE_S)
        self.drop(leaving)

    def drop_dead(self) -> None:
        """Drop the idle slots whose actors do not answer."""
        self.drop([slot for slot in self.idle if not _lives(slot)])

    def drop(self, slots: list[Slot]) -> None:
        """End these actors, and give back the groups of which no other is left."""
        self.all = [slot for slot in self.all if slot not in slots]
        self.idle = [slot for slot in self.idle if slot not in slots]
        held = {slot.group.id for slot in self.all}
        for slot in slots:
            ray.kill(slot.actor)
        for group in {slot.group.id: slot.group for slot in slots}.values():
            if group.id not in held:
                remove_placement_group(group)

    def close(self) -> None:
        """Give everything back, at work or not."""
        self.form(None)
        self.idle = list(self.all)
        self.disband()


def _lives(slot: Slot) -> bool:
    try:
        ray.get(slot.actor.stop.remote(""), timeout=CLOSE_S)
    except RayError:
        return False
    return True
