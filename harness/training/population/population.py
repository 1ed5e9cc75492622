"""The training loop for many cells at once: cells of one topic, model and loss, trained as one.

Every member is an ordinary Training. What a player moves of it lies in one row of a matrix that
moves as a whole: ``torch.func.vmap`` over the player's own objective gives each row its gradient,
traced once to a graph of plain operations, which runs without vmap's cost. Rows never mix, so one
that goes wrong leaves the others as they are. A member's generators, order of samples, noise and
learning rates are those it has alone; its numbers differ by rounding, since matrices are multiplied
in batches: by at most TOLERANCE, relative, in the losses of the topic's ``agrees`` first steps.

Shapes: N members, P parameters of one, B batch, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from harness.axes import precision, registry
from harness.axes.optimizers import Optimizer
from harness.axes.schedules import Schedule
from harness.cell import Budget, Cell
from harness.training import heartbeat
from harness.training.loop import CHECK_EVERY, Diverged, Training
from harness.training.population import stacking
from harness.training.population.batches import Streams
from harness.training.population.rows import Rows
from harness.training.topic import Topic


def _of_ones_own(member: Training) -> list[str]:
    """Return the names of a member's schedule and optimizer that a project brings.

    A population follows the learning rate and torch's own rules only.
    """
    kinds = {player.optimizer.kind for player in member.players}
    used = registry.used(member.cell, kinds)
    return [value.name for value in used if isinstance(value, Schedule | Optimizer)]


class Population:
    """Trainings of several cells that move together, as rows of one matrix.

    members are in the order of their rows. ended: by cell, the Diverged that ended its training.
    losses grows by one tensor of N a step, ``rates`` by one list of N. The argument rates: each
    member's, as ``Training`` takes it.
    Raises stacking.NotStackable where the cells cannot share the work.
    """

    def __init__(
        self,
        topic: Topic,
        cells: Sequence[Cell],
        budget: Budget,
        device: torch.device | None = None,
        rates: Sequence[float] | None = None,
    ) -> None:
        members: list[Training] = []
        for cell, rate in zip(cells, rates or [1.0] * len(cells), strict=True):
            members.append(Training(topic, cell, budget, device, rate=rate))
            if reason := stacking.differ(members[0], members[-1]):
                raise stacking.NotStackable(reason)
        if own := [name for member in members for name in _of_ones_own(member)]:
            raise stacking.NotStackable(f"{own[0]} is one's own, and trains alone")
        self.members = sorted(members, key=_kinds)
        self.budget, self.device = budget, members[0].device
        self.streams = Streams([member.batches for member in self.members])
        self.ended: dict[Cell, Diverged] = {}
        self.step = 0
        self.losses: list[Tensor] = []
        self.rates: list[list[float]] = []
        self.players = [Rows(self.members, place) for place in range(len(members[0].players))]
        self.values_NP = [rows.value_NP for rows in self.players]
        for rows in self.players:
            rows.trace(self.values_NP, self.streams.example(budget.batch_size))

    def __len__(self) -> int:
        return len(self.members)

    def run(self, until: int, each_step: Callable[[int], None] | None = None) -> None:
        """Train up to and including step ``until``; members that diverge are noted in ``ended``."""
        for member in self.members:
            for network in member.networks.values():
                network.train()
        while self.step < until and len(self.ended) < len(self):
            self.advance()
            if self.step % CHECK_EVERY == 0 or self.step == until:
                self.check_finite()
            if self.step in self.members[0].failure_checks:
                self._check_failures()
            if each_step is not None:
                each_step(self.step)

    def advance(self) -> None:
        """Make one step of every member: each player takes its turns, on the members' batches."""
        batch = self.streams.draw(self.budget.batch_size)
        self.rates.append(self.players[0].rates())
        for rows in self.players:
            for turn in range(rows.turns):
                if turn > 0:
                    batch = self.streams.draw(self.budget.batch_size)
                losses_N = rows.take_turn(self.values_NP, batch)
            rows.step_schedules(losses_N)
            if rows.place == 0:
                self.losses.append(losses_N)
        self.step += 1
        heartbeat.beat(self.step)

    def compile(self) -> None:
        """Compile the players' steps, tried on copies. Raises whatever ``torch.compile`` raises."""
        precision.set_compiler()
        for rows in self.players:
            rows.compile(self.values_NP, self.streams.example(self.budget.batch_size))

    def update_members(self) -> None:
        """Copy the rows into the members: networks, optimizer, schedule, step.

        Members that ended keep what they had when they ended.
        """
        for index, member in enumerate(self.members):
            if member.cell not in self.ended:
                self._update_member(index)

    def update_histories(self) -> None:
        """Copy losses and rates into the members, into those that ended up to their last step."""
        losses_NT = torch.stack(self.losses, dim=1)
        for index, member in enumerate(self.members):
            member.losses = list(losses_NT[index, : member.step].unbind())
            member.rates = [row[index] for row in self.rates[: member.step]]

    def update_rows(self) -> None:
        """Copy the members' parameters and optimizer states, all at one step, into the rows.

        Members that ended go on as rows with what numbers they have.
        """
        ended = [index for index, m in enumerate(self.members) if m.cell in self.ended]
        present = next(m for m in self.members if m.cell not in self.ended)
        self.step = present.step
        for index in ended:
            self.members[index].batches.load_state_dict(present.batches.state_dict())
        self.streams = Streams([member.batches for member in self.members])
        for rows in self.players:
            rows.update(self.step)
            rows.follow(ended)

    def check_finite(self) -> None:
        """End the members that had a loss in the last CHECK_EVERY steps that is not finite."""
        recent_TN = torch.stack(self.losses[-CHECK_EVERY:])
        if recent_TN.isfinite().all():
            return
        for index in (~recent_TN.isfinite()).any(0).nonzero()[:, 0].tolist():
            first = int((~recent_TN[:, index].isfinite()).nonzero()[0])
            self._end(index, Diverged(self.step - len(recent_TN) + first + 1))

    def _check_failures(self) -> None:
        """End the members whose networks the topic finds to have failed."""
        self.update_members()
        for index, member in enumerate(self.members):
            if member.cell not in self.ended:
                try:
                    member.check_failure()
                except Diverged as error:
                    self._end(index, error)

    def _end(self, index: int, error: Diverged) -> None:
        """Note how a member ended, and copy its row into it, if it has not ended before."""
        cell = self.members[index].cell
        if cell not in self.ended:
            self._update_member(index)
            self.ended[cell] = error

    def _update_member(self, index: int) -> None:
        """Copy a member's rows into it."""
        for rows in self.players:
            rows.update_member(index)
        self.members[index].step = self.step


def _kinds(member: Training) -> list[str]:
    """Return the kinds of a member's optimizers, to put those that are moved alike together."""
    return [type(optimizer).__name__ for optimizer in member.optimizers.values()]
