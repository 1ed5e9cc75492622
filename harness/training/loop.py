"""The training loop of every topic and cell. All that is random is seeded, saved and restored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from harness import checkpoint
from harness.axes import parallel, precision, schedules
from harness.cell import Budget, Cell, UsageError
from harness.checkpoint import state
from harness.checkpoint.tree import plain
from harness.training import heartbeat, modes, returned, sparse, weights
from harness.training.curve import history, thinned
from harness.training.random_state import (
    evaluation_mode,
    random_state,
    seed_everything,
    set_random_state,
)
from harness.training.topic import Batch, Player, Topic

CHECK_EVERY = 10  # steps between looks at whether losses are finite
SAMPLE_SEED = 64  # of the noise of all samples


class Diverged(Exception):  # noqa: N818  (named for the record's status: a result, no error)
    """Raised when a training has diverged or failed by ``step``: a result to record, no fault."""

    def __init__(self, step: int, reason: str = "the loss is not finite") -> None:
        super().__init__(f"{reason} at step {step}")
        self.step = step


class Training:
    """A cell's training: its networks, players, optimizers, schedules and batches at some step.

    It is fresh when made, and ``load_state_dict`` brings it to a saved step.
    losses and rates grow by one entry per step: the first player's loss (mean over ranks, in the
    last of its turns) and its learning rate. accumulate: equal parts that a rank takes a batch in,
    one gradient for all. watched_steps: of the first ones the first player's gradient, in the first
    of its turns, is kept, whole, in ``gradients``.
    rate: by how much all players' learning rates are multiplied.
    Raises UsageError if the batch size cannot be shared among ranks and parts, and for a layer that
    an optimizer or the configuration cannot take.
    """

    def __init__(
        self,
        topic: Topic,
        cell: Cell,
        budget: Budget,
        device: torch.device | None = None,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        watched_steps: int = 0,
        rate: float = 1.0,
    ) -> None:
        self.parts = parallel.parts(cell.parallel, world_size)
        self.part = parallel.part(cell.parallel, rank, world_size)
        if budget.batch_size % (self.parts * accumulate):
            parts = f" and {accumulate} parts" if accumulate > 1 else ""
            raise UsageError(
                f"batch size {budget.batch_size} does not divide among {self.parts} ranks{parts}"
            )
        self.topic, self.cell, self.budget = topic, cell, budget
        self.rank, self.world_size, self.accumulate = rank, world_size, accumulate
        self.device = device or torch.device("cpu")
        self.gpus = [self.device] if self.device.type == "cuda" else []
        if cell.parallel == "dp" and self.gpus:
            self.gpus = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
        seed_everything(cell.seed)
        self.networks = {
            name: network.to(self.device)
            for name, network in returned.networks(topic.networks(cell)).items()
        }
        self.frozen = weights.frozen(self.networks)
        self.players = [
            replace(player, optimizer=player.optimizer.scaled(rate))
            for player in returned.players(topic.players(cell), self.networks)
        ]
        sparse.check(self.players, self.networks, cell.schedule)
        moves = {player.name: player.networks for player in self.players}
        called = precision.prepared(cell.precision, self.networks, self.device)
        self.layout = parallel.Layout(cell.parallel, called, moves)
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.schedules: dict[str, Any] = {}
        for player in self.players:
            optimizer, schedule = schedules.build(
                cell.schedule,
                player.optimizer,
                [*player.named_parameters(self.networks)],
                budget.steps,
                self.layout.optimizer,
            )
            self.optimizers[player.name], self.schedules[player.name] = optimizer, schedule
        self.with_modes = modes.with_modes(self.optimizers.values())
        self.generator = torch.Generator().manual_seed(cell.seed + 1)
        self.batches = returned.batches(
            topic.batches(cell, budget, self.networks, self.generator, self.device)
        )
        half = budget.steps // 2
        rest = budget.steps - half
        self.failure_checks = {half + rest * part // 5 for part in range(1, 6)}
        self.step = self.begun = 0
        self.losses: list[Tensor] = []
        self.checked = 0
        self.watched_steps = watched_steps
        self.gradients: list[Tensor] = []
        self.rates: list[float] = []
        self.measures: dict[str, list[float]] = {}
        heartbeat.beat()

    def run(self, until: int, each_step: Callable[[int], None] | None = None) -> None:
        """Train up to and including step ``until``; ``each_step`` is called with every step made.

        Raises Diverged when the loss is not finite, or when it is found in the second half of the
        training (at five steps, the last one among them) that networks have failed.
        """
        for network in self.networks.values():
            network.train()
        for optimizer in self.with_modes:
            optimizer.train()
        while self.step < until:
            self.advance()
            if self.step % CHECK_EVERY == 0 or self.step == until:
                self.check_finite()
            if self.step in self.failure_checks:
                self.check_failure()
            if each_step is not None:
                each_step(self.step)

    def advance(self) -> None:
        """Make one step: each player takes its turns, on this rank's shard of a global batch."""
        compiles = self.cell.precision == "compiled" and self.step == self.begun
        with (
            heartbeat.ticking() if compiles else nullcontext(),
            precision.step(self.cell.precision, self.device),
        ):
            self._take_turns()
        self.step += 1
        last = self.step == self.budget.steps
        self.layout.after_step(self.step, last)
        self.topic.each_step(self.networks, self.cell, self.step, self.budget.steps)
        if last:
            self.layout.average_rest()
        self._measure()
        heartbeat.beat(self.step)

    def _measure(self) -> None:
        """Note what the batches measure at this step; NaN for what they measured before only."""
        for name, value in self.batches.measures().items():
            self.measures.setdefault(name, [float("nan")] * (len(self.losses) - 1)).append(value)
        for values in self.measures.values():
            if len(values) < len(self.losses):
                values.append(float("nan"))

    def _take_turns(self) -> None:
        """Have each player draw its batches and move its parameters and its schedule."""
        batch = self._draw()
        for index, player in enumerate(self.players):
            optimizer = self.optimizers[player.name]
            if len(self.players) > 1 or self.step == self.begun:
                self.layout.freeze_others(player.name)
            for turn in range(player.turns):
                if turn > 0:
                    batch = self._draw()
                optimizer.zero_grad(set_to_none=True)
                loss = self._backward(player, batch)
                if self.step == self.begun:
                    self.layout.note_gradients(player.name)
                if index == turn == 0:
                    self.rates.append(optimizer.param_groups[0]["lr"])
                    if self.step < self.watched_steps:
                        self.gradients.append(self._gradient(player))
                optimizer.step()
            schedule = self.schedules[player.name]
            if self.world_size > 1 and schedules.looks_at_loss(schedule):
                loss = parallel.mean_over_ranks(loss)
            schedules.step(schedule, loss)
            if index == 0:
                self.losses.append(loss)

    def _draw(self) -> Batch:
        """Return this rank's shard of the next global batch."""
        size = self.budget.batch_size
        if self.parts == 1:
            return self.batches.draw(size)
        return self.batches.draw_share(size, self.part, self.parts)

    def _backward(self, player: Player, batch: Batch) -> Tensor:
        """Compute a player's gradients, accumulated over a batch's parts; return its mean loss."""
        if self.accumulate == 1:
            loss = self._loss(player, batch)
            loss.backward()
            return loss.detach()
        losses = []
        for part in range(self.accumulate):
            self.layout.sync_gradients(player.name, now=part == self.accumulate - 1)
            loss = self._loss(player, parallel.shard(batch, part, self.accumulate))
            (loss / self.accumulate).backward()
            losses.append(loss.detach())
        return torch.stack(losses).mean()

    def _loss(self, player: Player, batch: Batch) -> Tensor:
        """Return a player's loss on a batch, its networks called in the cell's precision.

        Of one value a GPU, as dp may leave it, the mean. Raises UsageError if it is no one number.
        """
        try:
            with precision.objective(self.cell.precision):
                loss = player.objective(self.layout.called[player.name], batch)
        except RuntimeError as error:
            self.layout.explain(error)
            raise
        if self.cell.precision == "compiled":
            loss = loss.clone()  # a CUDA graph's output is overwritten at the next step
        if self.cell.parallel == "dp":
            size = self.budget.batch_size // self.accumulate
            loss = parallel.mean_over_gpus(loss, size, len(self.gpus))
        if loss.numel() != 1:
            raise UsageError(
                f"the objective of player {player.name} returned a loss of shape "
                f"{tuple(loss.shape)}: one number is needed, such as its mean"
            )
        return loss.reshape(()) if loss.dim() else loss

    def _gradient(self, player: Player) -> Tensor:
        """Return a player's whole gradient, flat, on the CPU; all ranks call it together."""
        parts = [p.grad for p in player.parameters(self.networks) if p.grad is not None]
        whole = [
            part.to_dense() if part.is_sparse else parallel.full_tensors(part) for part in parts
        ]
        return torch.cat([part.detach().flatten() for part in whole]).cpu()

    def full_networks(self) -> dict[str, nn.Module]:
        """Return the networks unsharded, for evaluation; all ranks call it together.

        They are the trained ones themselves unless those are sharded: then copies, in evaluation
        mode.
        """
        if not parallel.is_sharded(self.cell.parallel):
            return self.networks
        copies = self.topic.networks(self.cell)
        for name, network in self.networks.items():
            state = parallel.full_tensors(dict(network.state_dict()))
            checkpoint.load_network(copies[name].to(self.device).eval(), state)
        return copies

    def settle(self) -> None:
        """Put the weights that are to be used in place, where an optimizer trains others."""
        for optimizer in self.with_modes:
            optimizer.eval()
        if self.with_modes:
            self.layout.average()

    @contextmanager
    def _evaluation(self) -> Iterator[None]:
        """Have networks as they are to be used for the block, and afterwards as they train."""
        with modes.kept(self.with_modes, self.networks):
            self.settle()
            with evaluation_mode(self.networks, self.generator, self.gpus):
                yield

    def check_failure(self) -> None:
        """Raise Diverged if networks have failed, whatever the loss; all ranks call it together.

        They have if their weights are not finite, which no loss shows after the last step, or if
        the topic finds that they have; be it on one rank only, as under local_sgd they differ.
        """
        with self._evaluation():
            networks = self.full_networks()
            finite = weights.finite(networks, self.frozen)
            shares = torch.stack([*finite.values()]).float()
            if self.world_size > 1:
                shares = parallel.mean_over_ranks(shares)
            lost = [name for name, share in zip(finite, shares.tolist(), strict=True) if share < 1]
            if lost:
                raise Diverged(self.step, f"weights of {', '.join(lost)} are not finite")
            reason = self.topic.failure(networks, self.cell)
        if self.world_size > 1:
            reason = next(filter(None, parallel.gather(reason)), None)
        if reason:
            raise Diverged(self.step, reason)

    def check_finite(self) -> None:
        """Raise Diverged if a loss since the last check, averaged over ranks, is not finite."""
        if self.checked >= len(self.losses):
            return
        recent = torch.stack(self.losses[self.checked :])
        if self.world_size > 1:
            recent = parallel.mean_over_ranks(recent)
            self.losses[self.checked :] = recent.unbind()
        self.checked = len(self.losses)
        if not recent.isfinite().all():
            bad = int((~recent.isfinite()).nonzero()[0])
            raise Diverged(self.step - len(recent) + bad + 1)

    def curve(self, points: int = 200) -> dict[str, list[float]]:
        """Return step, loss, lr and what the batches measured, at about ``points`` of the steps."""
        return thinned(self.losses, self.rates, self.measures, points)

    def evaluate(self) -> dict[str, Any]:
        """Return the topic's held-out metrics and how they were measured, and the batches' summary.

        All ranks call it together; only rank 0 evaluates, the others return the summary alone.
        """
        with self._evaluation():
            networks = self.full_networks()
            found = {} if self.rank else self.topic.evaluate(networks, self.cell)
        return self.batches.summary() | found

    def validate(self) -> dict[str, Any]:
        """Return metrics on validation data, if any, on rank 0; all ranks call it together.

        Empty too where weights are not finite: a training that they end is not measured on its way.
        """
        with self._evaluation():
            networks = self.full_networks()
            if self.rank or not all(weights.finite(networks, self.frozen).values()):
                return {}
            return self.topic.validate(networks, self.cell)

    def sample(self, count: int) -> Tensor:
        """Generate ``count`` images, always from the same noise: uint8 (N, C, H, W) on the CPU.

        All ranks call it together; only rank 0 samples, the others return an empty tensor.
        """
        generator = torch.Generator().manual_seed(SAMPLE_SEED)
        with self._evaluation():
            networks = self.full_networks()
            if self.rank:
                return torch.empty(0)
            return self.topic.sample(networks, self.cell, count, generator).cpu()

    def state_dict(self) -> dict[str, Any]:
        """Return all that decides the steps to come, as a tree; all ranks call it together.

        Complete on rank 0. It does not depend on the configuration, so that another can go on from
        it: sharded tensors stay sharded, and where ranks differ, ``ranks`` holds what is
        each one's own and the rest is their average.
        """
        tree = self._local()
        ranks = []
        if self.cell.parallel == "local_sgd":
            ranks = parallel.gather_to_rank_zero(tree)
            own = {name: tree[name] for name in ("networks", "optimizers")}
            tree |= parallel.average(own, self.device)
        elif self.layout.compression:
            ranks = parallel.gather_to_rank_zero({"memory": plain(self.layout.state_dict())})
        return tree | {
            "cell": self.cell.id,
            "topic": dataclasses.asdict(self.topic),
            "targets": self.topic.targets(),
            "parallel": [self.cell.parallel, self.world_size],
            "ranks": ranks,
        }

    def _local(self) -> dict[str, Any]:
        """Return this rank's own state as a tree."""
        return state.snapshot(
            self.networks,
            self.optimizers,
            self.schedules,
            step=self.step,
            random=random_state(self.generator, self.gpus),
            batches=self.batches.state_dict(),
            history=history(self.losses, self.rates, self.measures),
        )

    def load_state_dict(self, tree: dict[str, Any]) -> None:
        """Continue from a ``state_dict`` of any configuration; all ranks call it together.

        Raises CheckpointError, nothing changed, if it does not fit.
        """
        ranks = tree.get("ranks", [])
        same = tree.get("parallel") == [self.cell.parallel, self.world_size]
        own = ranks[self.rank] if same and ranks else {}
        tree = tree | own
        things = (self.networks, self.optimizers, self.schedules)
        if self.step == 0 and (self.world_size > 2 or self.layout.compression):
            state.validate(tree, *things)
            self.advance()  # DDP regroups its sums after its first step: be where training was
        state.restore(tree, *things)
        self.layout.load_state_dict(own.get("memory", {}))
        self.batches.load_state_dict(tree["batches"])
        set_random_state(tree["random"], self.generator, self.gpus)
        self.step = self.begun = tree["step"]
        kept = tree.get("history", {"losses": torch.empty(0), "rates": torch.empty(0)})
        self.losses = list(kept["losses"].to(self.device))
        self.rates = kept["rates"].tolist()
        self.measures = {name: v.tolist() for name, v in kept.get("measures", {}).items()}
        self.checked = len(self.losses)
