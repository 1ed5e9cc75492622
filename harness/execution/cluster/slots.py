"""The Ray actors that a run holds on a cluster, placed a gang at a time and then reused."""

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
    """One Ray actor for one rank, in a placement group that holds its CPU and GPU."""

    actor: Any
    group: PlacementGroup
    gpus: int


@dataclass
class Forming:
    """A placement group that was requested and is not there yet: all of its bundles, or none."""

    request: Request
    group: PlacementGroup
    ready: ray.ObjectRef


class Slots:
    """Keeps a run's slots: all, the idle ones, and the placement group it has requested."""

    def __init__(self) -> None:
        self.all: list[Slot] = []
        self.idle: list[Slot] = []
        self.forming: Forming | None = None

    def take(self, request: Request) -> list[Slot]:
        """Return an idle slot for each rank; [] if there are too few, after requesting a group."""
        free = [slot for slot in self.idle if slot.gpus == request.gpus]
        if len(free) < request.ranks:
            self.form(request)
            return []
        slots = free[: request.ranks]
        self.idle = [slot for slot in self.idle if slot not in slots]
        return slots

    def form(self, request: Request | None) -> None:
        """Request a placement group instead of any other; None only cancels what was requested."""
        if self.forming and self.forming.request != request:
            remove_placement_group(self.forming.group)
            self.forming = None
        if self.forming is None and request is not None:
            group = placement_group(request.bundles)
            self.forming = Forming(request, group, group.ready())

    def formed(self) -> None:
        """Start an actor in each bundle of the group that is now placed, as an idle slot."""
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
        """Release the groups in which no slot is at work; their actors remove their files."""
        busy = {slot.group.id for slot in self.all if slot not in self.idle}
        leaving = [slot for slot in self.idle if slot.group.id not in busy]
        if closing := [slot.actor.close.remote() for slot in leaving]:
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE_S)
        self.drop(leaving)

    def drop_dead(self) -> None:
        """Drop the idle slots whose actors do not answer."""
        self.drop([slot for slot in self.idle if not lives(slot)])

    def drop(self, slots: list[Slot]) -> None:
        """Kill the actors of slots, and release the placement groups that have no other."""
        self.all = [slot for slot in self.all if slot not in slots]
        self.idle = [slot for slot in self.idle if slot not in slots]
        held = {slot.group.id for slot in self.all}
        for slot in slots:
            ray.kill(slot.actor)
        for group in {slot.group.id: slot.group for slot in slots}.values():
            if group.id not in held:
                remove_placement_group(group)

    def close(self) -> None:
        """Kill all actors and release all placement groups, at work or not."""
        self.form(None)
        self.idle = list(self.all)
        self.disband()


def lives(slot: Slot) -> bool:
    """Return whether a slot's actor answers within CLOSE_S seconds."""
    try:
        ray.get(slot.actor.stop.remote(""), timeout=CLOSE_S)
    except RayError:
        return False
    return True
