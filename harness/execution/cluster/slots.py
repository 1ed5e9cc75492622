"""The seats that a run holds on a cluster: placed a gang at a time, kept from cell to cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from harness.execution.cluster.actor import Place
from harness.execution.cluster.resources import Request

CLOSE_S = 5.0


@dataclass(eq=False)
class Seat:
    """A place on a node, held by a bundle of a placement group until the group is removed."""

    place: Any
    group: PlacementGroup
    gpus: int


@dataclass
class Forming:
    """A placement group that has been asked for: all of its bundles at once, or none."""

    request: Request
    group: PlacementGroup
    ready: ray.ObjectRef


class Seats:
    """All seats, those idle now, and the one placement group that is asked for."""

    def __init__(self) -> None:
        self.all: list[Seat] = []
        self.idle: list[Seat] = []
        self.forming: Forming | None = None

    def take(self, request: Request) -> list[Seat]:
        """A seat for each rank; none, and a group is asked for, if there are too few."""
        free = [seat for seat in self.idle if seat.gpus == request.gpus]
        if len(free) < request.ranks:
            self.form(request)
            return []
        seats = free[: request.ranks]
        self.idle = [seat for seat in self.idle if seat not in seats]
        return seats

    def form(self, request: Request | None) -> None:
        """Ask for a group for this request and no other; None: for none at all."""
        if self.forming and self.forming.request != request:
            remove_placement_group(self.forming.group)
            self.forming = None
        if self.forming is None and request is not None:
            group = placement_group(request.bundles)
            self.forming = Forming(request, group, group.ready())

    def formed(self) -> None:
        """Take in the seats of the group that has just been placed."""
        forming = self.forming
        assert forming is not None
        self.forming = None
        gpus = forming.request.gpus
        for rank in range(forming.request.ranks):
            place = ray.remote(Place).options(
                num_cpus=1,
                num_gpus=gpus,
                max_concurrency=3,
                scheduling_strategy=PlacementGroupSchedulingStrategy(forming.group, rank),
            )
            self.idle.append(Seat(place.remote(), forming.group, gpus))
        self.all += self.idle[-forming.request.ranks :]

    def disband(self) -> None:
        """Give back the groups of which no seat is at work; their places remove their files."""
        busy = {seat.group.id for seat in self.all if seat not in self.idle}
        leaving = [seat for seat in self.idle if seat.group.id not in busy]
        if closing := [seat.place.close.remote() for seat in leaving]:
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE_S)
        self.drop(leaving)

    def drop_dead(self) -> None:
        """Drop the idle ones that do not answer."""
        self.drop([seat for seat in self.idle if not _lives(seat)])

    def drop(self, seats: list[Seat]) -> None:
        """End these places, and give back the groups of which no other is left."""
        self.all = [seat for seat in self.all if seat not in seats]
        self.idle = [seat for seat in self.idle if seat not in seats]
        held = {seat.group.id for seat in self.all}
        for seat in seats:
            ray.kill(seat.place)
        for group in {seat.group.id: seat.group for seat in seats}.values():
            if group.id not in held:
                remove_placement_group(group)

    def close(self) -> None:
        """Give everything back, at work or not."""
        self.form(None)
        self.idle = list(self.all)
        self.disband()


def _lives(seat: Seat) -> bool:
    try:
        ray.get(seat.place.stop.remote(""), timeout=CLOSE_S)
    except RayError:
        return False
    return True
