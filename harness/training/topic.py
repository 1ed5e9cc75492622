"""The interface that a topic implements: its networks, players, batches and evaluation.

To add one, write a frozen dataclass derived from Topic and name it under the entry point
``harness.topics``, or return it from ``pytest_decathlon_topics`` in your own conftest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell
from harness.training.agreement import AGREE
from harness.training.batches import Batches
from harness.training.random_state import seed_everything

PROFILES = ("smoke", "quick", "full")

Networks = Mapping[str, nn.Module]
Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Player:
    """A set of parameters with its optimizer and its objective.

    networks names the networks whose parameters it moves. objective is a pure function of
    (networks, batch) to a scalar loss, so the same lines run alone, wrapped in DDP or under vmap.
    turns: optimizer steps that it takes at every step of the training, each on a batch of its own;
    the last of these is the batch of the players after it. Its schedule moves once a step.
    """

    name: str
    networks: tuple[str, ...]
    objective: Callable[[Networks, Batch], Tensor]
    optimizer: OptimizerSpec
    turns: int = 1

    def named_parameters(self, networks: Networks) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters of the networks that it moves, each as ``network.its.name``.

        One that several of them share comes once, under its first name.
        """
        seen: set[nn.Parameter] = set()
        for name in self.networks:
            for key, parameter in networks[name].named_parameters(prefix=name):
                if parameter not in seen:
                    seen.add(parameter)
                    yield key, parameter

    def parameters(self, networks: Networks) -> Iterator[nn.Parameter]:
        """Return the parameters of the networks that it moves, one by one."""
        return (parameter for _, parameter in self.named_parameters(networks))


@dataclass(frozen=True)
class Topic:
    """One learning problem of the matrix: data, models, objectives, evaluation.

    Its dataclass fields are its hyper-parameters.

    models: the values of the model axis. recipe: the default (loss, schedule).
    budgets: one for each of the profiles smoke, quick and full.
    directions: ``max`` or ``min`` per metric, the primary one first.
    margin: a difference of the primary metric that does not matter, within which a race calls
    recipes tied; None: 2 % of what the best recipe's first seed wins over the untrained network.
    fits: the models trained by ``fit`` (scikit-learn) instead of by players.
    generates: whether it has ``sample``.
    alone: for several tasks in one network, per task's metric the model that learns only this task;
    ``transfer`` compares the others with it.
    populates: the models whose cells may train as one population where that is measured to pay:
    batches of plain data (``Shuffled``, ``WithNoise``), each network moved by one player, and by
    its gradients only.
    agrees: the first steps in which a member of a population has the losses that it has alone
    (within ``agreement.TOLERANCE``); one rounding soon moves a game further.
    on_cpu: the models whose steps a GPU makes longer, since launching them is all their time: they
    train on the CPU unless ``--device cuda`` says otherwise.
    undivided: the models whose gradient is no mean over samples, so that no batch can be taken in
    parts (``--accumulate``).
    untrainable: losses that cannot train the topic, by a search that is on record, and why; their
    cells are trained all the same.
    loss_falls: whether the first player's loss falls as it gets better, which plateau waits for; an
    adversary's, a policy's or that on targets which move with the network does not.
    """

    name: ClassVar[str]
    models: ClassVar[tuple[str, ...]]
    recipe: ClassVar[tuple[str, str]]
    budgets: ClassVar[Mapping[str, Budget]]
    directions: ClassVar[Mapping[str, str]]
    margin: ClassVar[float | None] = None
    fits: ClassVar[tuple[str, ...]] = ()
    generates: ClassVar[bool] = False
    alone: ClassVar[Mapping[str, str]] = {}
    populates: ClassVar[tuple[str, ...]] = ()
    agrees: ClassVar[int] = AGREE
    on_cpu: ClassVar[tuple[str, ...]] = ()
    undivided: ClassVar[tuple[str, ...]] = ()
    untrainable: ClassVar[Mapping[str, str]] = {}
    loss_falls: ClassVar[bool] = True

    def dataset_id(self) -> str:
        """Return a name and hash of the data, for the record and the fingerprint."""
        raise NotImplementedError

    def data_notes(self) -> list[str]:
        """Return what a person should know of how the data was taken, a line each.

        Said before training and kept in the record; none for data that is plain.
        """
        return []

    def targets(self) -> dict[str, Any]:
        """Return what tells a network's outputs in the data's own words and units.

        The ``labels`` of classes in their order, or ``mean`` and ``sd`` of numbers that were
        standardised; empty if there is nothing to translate. Checkpoints keep it.
        """
        return {}

    def depends_on(self) -> list[Any]:
        """Return classes and functions from elsewhere that decide the numbers too."""
        return []

    def prepare(self) -> None:
        """Raise UsageError for data or models that cannot be trained, before anything is."""
        self.dataset_id()

    def forms(self, model: str) -> tuple[str, ...]:
        """Return the forms of a loss that a model needs: some of ``harness.Loss.forms``."""
        return ()

    def skip(self, cell: Cell) -> str | None:
        """Return why a cell is not worth training here, as a sentence; None if it is."""
        return None

    def budget(self, profile: str, model: str) -> Budget:
        """Return a model's budget in a profile: that of ``budgets``, unless models differ."""
        return self.budgets[profile]

    def judged_by(self, model: str) -> list[str]:
        """Return the metrics that a model is to measure, the one it is judged by first.

        Its own task's if it is one of ``alone``, else the topic's primary metric.
        """
        own = [metric for metric, alone in self.alone.items() if alone == model]
        return own or [next(iter(self.directions))]

    def goal(self) -> float | None:
        """Return the primary metric's value on validation data at which the topic counts as solved.

        None: 90 % of what the run's best training wins over the untrained network.
        """
        return None

    def base_optimizer(self, model: str) -> OptimizerSpec:
        """Return the optimizer that a model's schedules drive.

        It decides which schedules are equal: adam is constant where the optimizer is Adam already.
        """
        raise NotImplementedError

    def networks(self, cell: Cell) -> dict[str, nn.Module]:
        """Return fresh networks on the CPU by name, initialised by torch's global generator.

        Parameters that are frozen here (``requires_grad_(False)``) stay as they are.
        """
        raise NotImplementedError

    def players(self, cell: Cell) -> list[Player]:
        """Return the players of a cell's training, which take turns at every step."""
        raise NotImplementedError

    def batches(
        self,
        cell: Cell,
        budget: Budget,
        networks: Networks,
        generator: torch.Generator,
        device: torch.device,
    ) -> Batches:
        """Return the stream of training batches; all its randomness comes from ``generator``.

        networks: those being trained, for a stream that acts with them.
        """
        raise NotImplementedError

    def each_step(self, networks: Networks, cell: Cell, step: int, steps: int) -> None:
        """Update what has no gradient, such as a target network, after every step of ``steps``."""

    def evaluate(self, networks: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
        """Measure networks on held-out data: metrics named as in ``directions``, for the record.

        Each is one number, a float or a tensor of one, and the primary one is always there (for a
        model in ``alone`` its task's). What else it returns is kept beside them: how they were
        measured (an extractor's name and hash, a sample count, an interval), or why one is missing.
        """
        raise NotImplementedError

    def validate(self, networks: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
        """Measure networks as ``evaluate`` does, on data that is neither trained on nor reported.

        All that chooses (rates, races, best) looks at these. Empty without such data: then it must
        look at what ``evaluate`` measures, and says so.
        """
        return {}

    def sample(
        self, networks: Networks, cell: Cell, count: int, generator: torch.Generator
    ) -> Tensor:
        """Return ``count`` generated images, uint8 of shape N, C, H, W; noise from ``generator``.

        They may lie on the CPU or where the networks are.
        They go into the page as a grid and out of ``python -m harness sample``.
        """
        raise NotImplementedError

    def failure(self, networks: Networks, cell: Cell) -> str | None:
        """Return how networks failed though the loss is finite (mode collapse); None if not."""
        return None

    def fit(self, cell: Cell) -> Any:
        """Fit the scikit-learn estimator of a model in ``fits``, and return it."""
        raise NotImplementedError

    def baseline(self, cell: Cell) -> dict[str, Any]:
        """Return the metrics without training: untrained networks', unless overridden."""
        seed_everything(cell.seed)
        networks = {name: network.eval() for name, network in self.networks(cell).items()}
        return self.evaluate(networks, cell)
