"""Under which conditions a run trains its cells: all that it decides before one begins."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness import matrix
from harness.axes import parallel, registry
from harness.cell import Budget, Cell, UsageError
from harness.fingerprint import (
    code_hash,
    code_of,
    counted,
    fingerprint,
    lasting_hash,
    topic_hash,
    untold,
)
from harness.rates import Rates
from harness.results import outdated
from harness.settings import Settings, set_topic
from harness.training import returned
from harness.training.topic import Topic
from harness.trial import cost, device
from harness.trial.task import Task

UNTOLD = "no cell is reused, for its code uses {}: make that inside of the function that uses it"
BESIDE = "trained on the CPU, where a step is faster (--device cuda has a GPU do it)"

UNCOUNTED = ("timeout_s", "expected_s")  # of a budget, for they decide no number
WATCHING = ("timeout_s", "looks")  # fields of a topic that decide no number
SAME_BUDGETS = {"race": "quick"}  # a profile that has those of another


@dataclass
class Conditions:
    """What cells are trained with: topics, budgets, rates, processes and devices.

    accumulate: equal parts that each rank takes a batch in. options: what ``replay`` must be told
    to train a cell again. project: what pytest was told to collect, so that ``replay`` finds its
    conftests. executor_kind: one of EXECUTORS. timeout: seconds of wall time after which a cell is
    given up, None if only standing still is a reason. share: the part of its profile's steps that a
    training takes, 1 in so many. choosing: cells are only validated, to choose by: nothing is
    reported, saved or audited. rates: those that cells without one of their own train at. settings:
    what topics, which have the fixed ones already, and budgets are set to. device: cpu or cuda,
    empty: a GPU where there is one. per_gpu: trainings that share one. own: the names of topics and
    of axes' values that only this process knows, so that no command can train their cells again.
    Raises UsageError for a device that is not there.
    """

    folder: Path
    topics: Mapping[str, Topic]
    profile: str
    world_size: int = 2
    accumulate: int = 1
    options: str = ""
    project: Sequence[str] = ()
    timeout: float | None = None
    rates: Rates = field(default_factory=Rates)
    settings: Settings = field(default_factory=Settings)
    share: int = 1
    choosing: bool = False
    own: Collection[str] = ()
    device: str = ""
    per_gpu: int = 1
    executor_kind: str = "local"

    def __post_init__(self) -> None:
        self._beside = device.beside(self.device, self.executor_kind)
        self.device = device.choose(self.device or None)
        self.gpus = device.gpus(self.device)
        if self.per_gpu > 1 and not self.gpus:
            raise UsageError(f"per gpu {self.per_gpu}: there is no GPU here for trainings to share")
        self.environment = cost.environment(self.device)
        self._cpu = self.environment if self.device == "cpu" else cost.environment("cpu")
        if self.gpus:
            self.environment["per_gpu"] = self.per_gpu
        self._setups: dict[str, dict[str, str]] = {}
        self._set: dict[tuple[str, tuple[tuple[str, str], ...]], Topic] = {}

    def topic(self, cell: Cell) -> Topic:
        """Return the cell's topic, with the cell's settings. Raises UsageError for wrong ones."""
        key = (cell.topic, cell.settings)
        if key not in self._set:
            self._set[key] = set_topic(self.topics[cell.topic], cell.settings)
        return self._set[key]

    def budget(self, cell: Cell) -> Budget:
        """Return the cell's budget in this run's profile, as it is set, or its share of that."""
        profile, topic = SAME_BUDGETS.get(self.profile, self.profile), self.topic(cell)
        whole = self.settings.budget(topic, cell, topic.budget(profile, cell.model))
        steps = max(1, round(whole.steps / self.share))
        return replace(whole, steps=steps, expected_s=whole.expected_s / self.share)

    def fingerprint(self, cell: Cell) -> str:
        """Return a hash that changes with the cell, its budget, data, code, versions or device.

        What only watches a training does not count, a topic's ``timeout_s`` that is its budget's
        included.
        """
        topic, budget = self.topic(cell), self.budget(cell)
        own = registry.used(cell, self._optimizers(cell))
        watches = getattr(topic, "timeout_s", None) == budget.timeout_s
        return fingerprint(
            cell=cell,
            budget=counted(budget, without=UNCOUNTED),
            topic=counted(topic, without=("timeout_s",) if watches else ()),
            data=returned.dataset_id(topic),
            code=[code_hash(), topic_hash(topic, own)],
            own=own,
            rate=self.rates.of(cell),
            choosing=self.choosing,
            world_size=self.ranks(cell),
            accumulate=self.accumulate,
            versions={name: self.environment_of(cell).get(name) for name in cost.DECIDING},
        )

    def setup(self, cell: Cell) -> str:
        """Return hashes of what a topic's cells must share to be ranked together, by name.

        Of the topic its code, fields and data, of the cell's model its budget, and of own values
        that the cell uses theirs.
        """
        topic = self.topics[cell.topic]
        if topic.name not in self._setups:
            self._setups[topic.name] = {
                topic.name: lasting_hash(topic),
                f"{topic.name}.fields": fingerprint(fields=counted(topic, without=WATCHING)),
                f"{topic.name}{outdated.DATA}": fingerprint(data=returned.dataset_id(topic)),
            }
        budget = counted(self.budget(cell), without=(*UNCOUNTED, *WATCHING))
        swept = f".{fingerprint(settings=cell.settings)}" if cell.settings else ""
        parts = self._setups[topic.name] | {
            f"{outdated.BUDGET}{cell.model}{swept}": fingerprint(budget=budget)
        }
        for value in registry.used(cell, self._optimizers(cell)):
            code = code_of(type(value), lasting=True)
            parts[str(value.name)] = fingerprint(code=code, value=value)
        return " ".join(f"{name}={part}" for name, part in parts.items())

    def untold(self, cell: Cell) -> str:
        """Return a line of the values for which nothing of a cell's is reused; empty if of none."""
        topic = self.topic(cell)
        names = ", ".join(untold(topic, registry.used(cell, self._optimizers(cell))))
        return f"{topic.name}: {UNTOLD.format(names)}" if names else ""

    def place(self, cell: Cell) -> str:
        """Return where the cell is trained: on the run's device, or on the CPU beside its GPUs."""
        fitted = cell.model in self.topic(cell).fits
        return "cpu" if fitted or self.beside(cell) else self.device

    def beside(self, cell: Cell) -> bool:
        """Whether the cell is trained on the CPU beside GPUs: its topic has it in ``on_cpu``."""
        return self._beside and self.gpus > 0 and cell.model in self.topic(cell).on_cpu

    def environment_of(self, cell: Cell) -> dict[str, Any]:
        """Return what the cell is trained with."""
        return self.environment if self.place(cell) == self.device else self._cpu

    def _optimizers(self, cell: Cell) -> set[str]:
        """Return the kinds of a cell's players' optimizers, if a project brings any."""
        topic = self.topic(cell)
        if not registry.OPTIMIZERS.own or cell.model in topic.fits or self.skip_reason(cell):
            return set()
        return {player.optimizer.kind for player in topic.players(cell)}

    def ranks(self, cell: Cell) -> int:
        """Return how many processes train the cell."""
        return parallel.ranks(cell.parallel, self.world_size)

    def _ranks_here(self, cell: Cell) -> int:
        """Return how many of a cell's ranks share this machine's GPUs, if any do.

        Ray gives each a GPU, of this machine or another; torchrun says how many it started here.
        """
        if self.executor_kind == "ray":
            return 1
        ranks = self.ranks(cell)
        return min(ranks, int(os.environ.get("LOCAL_WORLD_SIZE", ranks)))

    def at_once(self, cell: Cell) -> int:
        """Return how many processes train cells like this one: a core each, or a part of a GPU."""
        gpus = device.gpus(self.place(cell))
        return min(cost.cores(), gpus * self.per_gpu or cost.cores())

    def skip_reason(self, cell: Cell) -> str | None:
        """Return why the cell would measure nothing in this run; None if it is worth a training."""
        topic = self.topic(cell)
        ranks = self.ranks(cell), self._ranks_here(cell)
        gpus = device.gpus(self.place(cell))
        reason = matrix.skip_reason(topic, cell, gpus, *ranks)
        if reason and self.beside(cell) and not matrix.skip_reason(topic, cell, self.gpus, *ranks):
            reason = f"it needs a GPU, and {cell.model} is {BESIDE}"
        if cell.parallel == "dp" and self.executor_kind == "ray":
            reason = "dp shares a batch out to the GPUs of one process, to which ray gives one"
        parts = parallel.parts(cell.parallel, self.ranks(cell)) * self.accumulate
        size = self.budget(cell).batch_size
        if reason is None and size % parts and cell.model not in topic.fits:
            reason = f"a batch of {size} does not divide into {parts} equal parts"
        if reason is None and self.accumulate > 1 and cell.model in topic.undivided:
            reason = (
                f"{cell.model}'s gradient is no mean over samples: it needs the batch undivided"
            )
        return reason

    def task(self, cell: Cell) -> Task:
        """Return the task by which a process is told of a cell of this run."""
        ranks = self.ranks(cell)
        topic = self.topic(cell)
        budget = self.budget(cell)
        where = (self.folder, self.place(cell), ranks, self.accumulate)
        return Task(
            topic,
            cell,
            budget,
            *where,
            rate=self.rates.of(cell),
            per_gpu=self.per_gpu,
            choosing=self.choosing,
            limit_s=self.timeout,
        )

    def command(self, cell: Cell) -> str:
        """Return the command that trains a cell of this run again, from the present folder.

        Empty if there is none.
        """
        if {cell.topic, cell.loss, cell.schedule, cell.parallel} & {*self.own}:
            return ""
        inside = self.folder.absolute().is_relative_to(Path.cwd())
        folder = os.path.relpath(self.folder) if inside else str(self.folder.absolute())
        where = f"--profile {self.profile} --run-dir {shlex.quote(folder)}"
        told = self.options + self.settings.arguments(cell.topic)
        if cell.model in self.topic(cell).on_cpu and self.place(cell) == "cuda":
            told += "" if "--device" in told else " --device cuda"
        return f"python -m harness replay {cell.id} {where}{told}"
