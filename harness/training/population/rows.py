"""What one player moves of all members: a row of a matrix for each, with rules and schedules.

Shapes: N members, P parameters that the player moves of one, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from harness.axes import schedules
from harness.checkpoint import state
from harness.checkpoint.tree import plain
from harness.training.loop import Training
from harness.training.population import stacking
from harness.training.population.optimizers import Rule, options_of
from harness.training.population.optimizers import rule as rule_of
from harness.training.transfers import onto

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Band:
    """The rows that one kind of optimizer moves, with its rule, options and moments.

    moments: by name, a row of P for each of the band's rows.
    """

    rows: slice
    rule: Rule
    options: dict[str, Any]
    moments: dict[str, Tensor]


class Rows:
    """One player's part of all members: the parameters that it moves, as rows of one matrix.

    place: the player's among all. taken: steps that its optimizers have made, turns of them at
    every step of the training. A row's member follows the rates of its own schedule, or of an
    earlier member's that is equal.
    Raises NotStackable if one of the optimizers has no rule for rows.
    """

    def __init__(self, members: Sequence[Training], place: int) -> None:
        self.members, self.place = members, place
        player = members[0].players[place]
        self.turns, self.taken = player.turns, 0
        self.parameters = [[*player.parameters(member.networks)] for member in members]
        self.optimizers = [member.optimizers[player.name] for member in members]
        self.schedules = [member.schedules[player.name] for member in members]
        self.device = members[0].device
        self.value_NP = torch.stack([stacking.row(own) for own in self.parameters])
        self.bands = self._bands()
        self.follow(())
        self.work: Callable[..., Tensor] = self._move

    def trace(self, values_NP: Sequence[Tensor], example: Batch) -> None:
        """Trace the gradient, once all players have their rows. Raises NotStackable."""
        self.graph = stacking.gradients(self.members[0], self.place, values_NP, example)

    def compile(self, values_NP: Sequence[Tensor], example: Batch) -> None:
        """Compile the step with ``torch.compile``, tried on copies. Raises whatever that raises."""
        work = torch.compile(self._move, dynamic=False)
        moments = [{name: m.clone() for name, m in own.items()} for own in self._moments()]
        work([value_NP.clone() for value_NP in values_NP], moments, example, *self._corrected())
        self.work = work

    def rates(self) -> list[float]:
        """Return each member's learning rate at its next step."""
        return [group["lr"] for group in self.groups]

    def take_turn(self, values_NP: Sequence[Tensor], batch: Batch) -> Tensor:
        """Move the rows by one step of their optimizers, in place; return losses_N.

        values_NP: the rows of all players, in their order.
        """
        losses_N = self.work(values_NP, self._moments(), batch, *self._corrected())
        self.taken += 1
        return losses_N

    def step_schedules(self, losses_N: Tensor) -> None:
        """Advance the schedules, once a step of the training."""
        for schedule in self.shared:
            schedule.step()
        if self.watching:
            seen = losses_N.tolist()
            for index in self.watching:
                schedules.step(self.schedules[index], seen[index])

    def follow(self, ended: Collection[int]) -> None:
        """Choose whose schedule each member follows: that of the first member with an equal one.

        A member whose schedule looks at losses, or that has ended, follows its own.
        """
        leaders: dict[object, int] = {}
        self.watching: list[int] = []
        self.leaders: list[int] = []
        for index, member in enumerate(self.members):
            key: object = (member.cell.schedule, member.players[self.place].optimizer)
            if schedules.looks_at_loss(self.schedules[index]):
                self.watching.append(index)
                key = index
            if index in ended:
                key = index
            self.leaders.append(leaders.setdefault(key, index))
            self.optimizers[index].step()  # no gradients, no move: schedules want it called
        self.shared = [
            self.schedules[index] for index in leaders.values() if index not in self.watching
        ]
        self.groups = [self.optimizers[index].param_groups[0] for index in self.leaders]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Copy the members' parameters and optimizer states at ``step`` into the rows."""
        self.taken = step * self.turns
        for index, own in enumerate(self.parameters):
            self.value_NP[index] = stacking.row(own)
        for band in self.bands:
            for name, moment_NP in band.moments.items():
                for row_P, index in zip(moment_NP, _indices(band), strict=True):
                    if kept := self.optimizers[index].state:
                        own = self.parameters[index]
                        row_P.copy_(stacking.row([kept[p][name] for p in own]))

    @torch.no_grad()
    def update_member(self, index: int) -> None:
        """Copy one row into its member: parameters, optimizer state, schedule."""
        own, optimizer, leader = self.parameters[index], self.optimizers[index], self.leaders[index]
        band = next(band for band in self.bands if index in _indices(band))
        sizes = [parameter.numel() for parameter in own]
        for parameter, part_P in zip(own, self.value_NP[index].split(sizes), strict=True):
            parameter.copy_(part_P.view_as(parameter))
        for parameter in own:
            if band.rule.counts:
                optimizer.state[parameter]["step"] = torch.tensor(float(self.taken))
        state.place_steps(optimizer)
        for name, moment_NP in band.moments.items():
            parts = moment_NP[index - band.rows.start].split(sizes)
            for parameter, part_P in zip(own, parts, strict=True):
                optimizer.state[parameter][name] = part_P.view_as(parameter).clone()
        if leader != index:
            followed = plain(self.schedules[leader].state_dict())
            self.schedules[index].load_state_dict(followed)
            optimizer.param_groups[0]["lr"] = self.optimizers[leader].param_groups[0]["lr"]

    def _bands(self) -> list[Band]:
        """Put neighbours of one kind of optimizer into bands."""
        bands = []
        for kind, some in groupby(range(len(self.members)), lambda i: type(self.optimizers[i])):
            first, *_ = indices = [*some]
            rule, options = rule_of(self.optimizers[first]), options_of(self.optimizers[first])
            if rule is None:
                raise stacking.NotStackable(
                    f"{kind.__name__} has no rule for a population with its options"
                )
            if any(options_of(self.optimizers[index]) != options for index in indices):
                raise stacking.NotStackable(f"their {kind.__name__} have different options")
            span = slice(first, first + len(indices))
            moments = {name: torch.zeros_like(self.value_NP[span]) for name in rule.moments}
            bands.append(Band(span, rule, options, moments))
        return bands

    def _move(
        self,
        values_NP: Sequence[Tensor],
        moments: Sequence[dict[str, Tensor]],
        batch: Batch,
        rate_N1: Tensor,
        roots: Tensor,
    ) -> Tensor:
        """Move rows and moments by one step, in place; return losses_N."""
        value_NP = values_NP[self.place]
        gradient_NP, losses_N = self.graph(values_NP, batch)
        for band, own, root in zip(self.bands, moments, roots, strict=True):
            of = band.rows
            band.rule.apply(value_NP[of], gradient_NP[of], own, rate_N1[of], root, band.options)
        return losses_N

    def _moments(self) -> list[dict[str, Tensor]]:
        return [band.moments for band in self.bands]

    def _corrected(self) -> tuple[Tensor, Tensor]:
        """Return what the rules need for the next step: rate_N1 and a root for each band."""
        found = [band.rule.corrections(self.taken + 1, band.options) for band in self.bands]
        rates = self.rates()
        corrected = [
            rate / divisor
            for band, (divisor, _) in zip(self.bands, found, strict=True)
            for rate in rates[band.rows]
        ]
        roots = torch.tensor([root for _, root in found])
        rate_N1 = onto(torch.tensor(corrected), self.device)[:, None]
        return rate_N1, onto(roots, self.device)


def _indices(band: Band) -> range:
    return range(band.rows.start, band.rows.stop)
