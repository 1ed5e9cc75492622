"""The training loop for many cells at once: cells of one topic, model and loss, trained as one.

Every member is an ordinary Training. Its parameters lie in one row of a matrix that moves as a
whole: ``torch.func.vmap`` over the topic's own objective gives each row its gradient, traced once
to a graph of plain operations, which runs without vmap's cost. Rows never mix, so one that goes
wrong leaves the others as they are. A member's generators, order of samples, noise and learning
rates are those it has alone; its numbers differ by rounding, since matrices are multiplied in
batches: by at most TOLERANCE, relative, in the losses of the first AGREE steps.

Shapes: N members, P parameters of one, B batch, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.axes import registry, schedules
from harness.axes.optimizers import Optimizer
from harness.axes.schedules import Schedule
from harness.cell import Budget, Cell
from harness.checkpoint import state
from harness.checkpoint.tree import plain
from harness.training import heartbeat
from harness.training.loop import CHECK_EVERY, Diverged, Training
from harness.training.population import stacking
from harness.training.population.batches import Streams
from harness.training.population.optimizers import Rule, options_of
from harness.training.population.optimizers import rule as rule_of
from harness.training.topic import Topic
from harness.training.transfers import onto


@dataclass(frozen=True)
class Band:
    """The rows that one kind of optimizer moves, with its rule, options and moments.

    moments: by name, a row of P for each of the band's rows.
    """

    rows: slice
    rule: Rule
    options: dict[str, Any]
    moments: dict[str, Tensor]


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
        self.members = sorted(members, key=lambda member: type(stacking.optimizer(member)).__name__)
        self.budget, self.device = budget, members[0].device
        self.streams = Streams([member.batches for member in self.members])
        self.ended: dict[Cell, Diverged] = {}
        self.step = 0
        self.losses: list[Tensor] = []
        self.rates: list[list[float]] = []
        self.values_NP = torch.stack(
            [stacking.row(stacking.values(member)) for member in self.members]
        )
        self.bands = self._bands()
        self._follow()
        example = self.streams.example(budget.batch_size)
        self.graph = stacking.gradients(self.members[0], self.values_NP, example)
        self._work: Callable[..., Tensor] = self._move

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
        """Make one step of every member, each on its own next batch."""
        batch = self.streams.draw(self.budget.batch_size)
        rates = [group["lr"] for group in self.groups]
        losses_N = self._work(self.values_NP, self._moments(), batch, *self._rates(rates))
        self.losses.append(losses_N)
        self.rates.append(rates)
        self.step += 1
        for schedule in self.shared:
            schedule.step()
        if self.watching:
            seen = losses_N.tolist()
            for index in self.watching:
                schedules.step(stacking.schedule(self.members[index]), seen[index])
        heartbeat.beat(self.step)

    def compile(self) -> None:
        """Compile the step with ``torch.compile``, tried on copies. Raises whatever that raises."""
        work = torch.compile(self._move, dynamic=False)
        batch = self.streams.example(self.budget.batch_size)
        rates = self._rates([group["lr"] for group in self.groups])
        moments = [{name: m.clone() for name, m in own.items()} for own in self._moments()]
        work(self.values_NP.clone(), moments, batch, *rates)
        self._work = work

    def update_members(self) -> None:
        """Copy the rows into the members: networks, optimizer, schedule, step.

        Members that ended keep what they had when they ended.
        """
        for band in self.bands:
            for index in range(band.rows.start, band.rows.stop):
                if self.members[index].cell not in self.ended:
                    self._update_member(index, band)

    def update_histories(self) -> None:
        """Copy losses and rates into the members, into those that ended up to their last step."""
        losses_NT = torch.stack(self.losses, dim=1)
        for index, member in enumerate(self.members):
            member.losses = list(losses_NT[index, : member.step].unbind())
            member.rates = [row[index] for row in self.rates[: member.step]]

    @torch.no_grad()
    def update_rows(self) -> None:
        """Copy the members' parameters and optimizer states, all at one step, into the rows.

        Members that ended go on as rows with what numbers they have.
        """
        present = [member for member in self.members if member.cell not in self.ended]
        self.step = present[0].step
        for member in self.members:
            if member.cell in self.ended:
                member.batches.load_state_dict(present[0].batches.state_dict())
        self.streams = Streams([member.batches for member in self.members])
        for index, member in enumerate(self.members):
            self.values_NP[index] = stacking.row(stacking.values(member))
        for band in self.bands:
            for name, moment_NP in band.moments.items():
                for row_P, member in zip(moment_NP, self.members[band.rows], strict=True):
                    kept = stacking.optimizer(member).state
                    if kept:
                        row_P.copy_(stacking.row([kept[p][name] for p in stacking.values(member)]))
        self._follow()

    def _bands(self) -> list[Band]:
        """Put members into bands by kind of optimizer. Raises NotStackable if one has no rule."""
        bands = []
        kinds = [type(stacking.optimizer(member)) for member in self.members]
        for kind in dict.fromkeys(kinds):
            first = kinds.index(kind)
            span = slice(first, first + kinds.count(kind))
            optimizers = [stacking.optimizer(member) for member in self.members[span]]
            rule, options = rule_of(optimizers[0]), options_of(optimizers[0])
            if rule is None:
                raise stacking.NotStackable(
                    f"{kind.__name__} has no rule for a population with its options"
                )
            if any(options_of(optimizer) != options for optimizer in optimizers):
                raise stacking.NotStackable(f"their {kind.__name__} have different options")
            moments = {name: torch.zeros_like(self.values_NP[span]) for name in rule.moments}
            bands.append(Band(span, rule, options, moments))
        return bands

    def _follow(self) -> None:
        """Choose whose schedule each member follows: that of the first member with an equal one.

        A member whose schedule looks at losses, or that has ended, follows its own.
        """
        leaders: dict[object, int] = {}
        self.watching: list[int] = []
        self.leaders: list[int] = []
        for index, member in enumerate(self.members):
            key: object = (member.cell.schedule, member.players[0].optimizer)
            if schedules.looks_at_loss(stacking.schedule(member)):
                self.watching.append(index)
                key = index
            if member.cell in self.ended:
                key = index
            self.leaders.append(leaders.setdefault(key, index))
            stacking.optimizer(member).step()  # no gradients, no move: schedules want it called
        self.shared = [
            stacking.schedule(self.members[index])
            for index in leaders.values()
            if index not in self.watching
        ]
        self.groups = [
            stacking.optimizer(self.members[index]).param_groups[0] for index in self.leaders
        ]

    def _move(
        self,
        value_NP: Tensor,
        moments: Sequence[dict[str, Tensor]],
        batch: dict[str, Tensor],
        rate_N1: Tensor,
        roots: Tensor,
    ) -> Tensor:
        """Move rows and moments by one step, in place; return losses_N."""
        gradient_NP, losses_N = self.graph(value_NP, batch)
        for band, own, root in zip(self.bands, moments, roots, strict=True):
            of = band.rows
            band.rule.apply(value_NP[of], gradient_NP[of], own, rate_N1[of], root, band.options)
        return losses_N

    def _moments(self) -> list[dict[str, Tensor]]:
        return [band.moments for band in self.bands]

    def _rates(self, rates: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Return what the rules need for the next step: rate_N1 and a root for each band."""
        found = [band.rule.corrections(self.step + 1, band.options) for band in self.bands]
        corrected = [
            rate / divisor
            for band, (divisor, _) in zip(self.bands, found, strict=True)
            for rate in rates[band.rows]
        ]
        roots = torch.tensor([root for _, root in found])
        rate_N1 = onto(torch.tensor(corrected), self.device)[:, None]
        return rate_N1, onto(roots, self.device)

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
            band = next(b for b in self.bands if b.rows.start <= index < b.rows.stop)
            self._update_member(index, band)
            self.ended[cell] = error

    @torch.no_grad()
    def _update_member(self, index: int, band: Band) -> None:
        """Copy one row into its member: parameters, optimizer state, schedule, step."""
        member, row = self.members[index], index - band.rows.start
        own, leader = stacking.values(member), self.members[self.leaders[index]]
        sizes = [parameter.numel() for parameter in own]
        for parameter, part_P in zip(own, self.values_NP[index].split(sizes), strict=True):
            parameter.copy_(part_P.view_as(parameter))
        optimizer = stacking.optimizer(member)
        for parameter in own:
            if band.rule.counts:
                optimizer.state[parameter]["step"] = torch.tensor(float(self.step))
        state.place_steps(optimizer)
        for name, moment_NP in band.moments.items():
            for parameter, part_P in zip(own, moment_NP[row].split(sizes), strict=True):
                optimizer.state[parameter][name] = part_P.view_as(parameter).clone()
        if leader is not member:
            followed = plain(stacking.schedule(leader).state_dict())
            stacking.schedule(member).load_state_dict(followed)
            optimizer.param_groups[0]["lr"] = stacking.optimizer(leader).param_groups[0]["lr"]
        member.step = self.step
