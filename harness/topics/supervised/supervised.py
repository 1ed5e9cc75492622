"""Supervised: a whole topic from one's own models, data and task.

Shapes: B batch, N samples, K classes, W outputs a number (the loss form's width).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.axes import losses
from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell, UsageError, unknown
from harness.topics import metrics
from harness.topics.supervised.data import Facts, facts
from harness.topics.supervised.given import Choices, Given, function
from harness.topics.supervised.networks import (
    OUTPUTS,
    refuse_parameters,
    refuse_single,
    try_out,
    try_training,
)
from harness.topics.supervised.own_metrics import TOP, USUAL, OwnMetrics, refuse_primary
from harness.topics.supervised.pairs import pair
from harness.topics.supervised.parts import Data, Part, load
from harness.topics.supervised.samples import Items, Read
from harness.topics.supervised.targets import Classes, Numbers
from harness.training.batches import Batches, Shuffled
from harness.training.topic import Batch, Networks, Player, Topic

RECIPES = {"classification": ("ce", "cosine"), "regression": ("mse", "cosine")}
SMOKE = 20  # steps at most
FULL = 4  # times the steps of quick


@dataclass(frozen=True)
class Supervised(Topic):
    """A whole topic from one's own models, data and task, in a line of a conftest::

        Supervised("mine", models={"mlp": mlp}, data=digits, task="classification")

    name: the topic's, in cells' ids.
    models: by name, functions or classes that make a fresh network each time they are called. One
        with a parameter ``outputs`` is told how many outputs a sample needs.
    data: x and y as a pair of tensors or arrays (y in a tuple also as a list), samples along the
        first dimension; a map-style Dataset of (x, y) items; or a function that returns one of
        these. It is called once in each process, under the same seed, and only its name travels
        there: best for large data.
    task: ``classification``: labels are counted, and a network gives K outputs a sample.
        ``regression``: a number a sample, standardised by the training samples; a network gives one
        output, or W under a histogram loss if it is told, else such losses are skipped.
    test: such data too, by which cells are reported. Without it a fifth of the samples, drawn at
        random but the same for all seeds and runs.
    validation: such data too, by which all is chosen. Without it an eighth of the training samples,
        drawn at random, another one for each of eight seeds.
    collate: a function from a list of items to a batch x, y: torch's ``default_collate`` if None.
    metrics: one's own by name, each a function and ``max`` or ``min``. The function takes
        predictions and targets of all samples on the CPU, and returns a number: probabilities_NK
        and class indices_N, or numbers_N and numbers_N in the data's own units.
    primary: the metric to judge by; None: the first own one, else accuracy or mse.
    classes: how many there are, so that a large Dataset need not be read whole to count them. Text
        labels are counted all the same, and must be as many.
    optimizer: what the schedules drive, with its learning rate.
    recipe: the default loss and schedule: ce or mse, under cosine.
    steps: of quick. smoke takes as many, but SMOKE at most; full takes FULL times as many.
    batch_size: samples a step, over all ranks together.
    looks: how often validation data is measured on the way, in quick and full.
    timeout_s: seconds without any progress after which a cell is given up.
    margin: a difference of the primary metric that does not matter, as ``Topic.margin``.
    bins: outputs of a histogram loss, W.
    support: standard deviations around the mean that the bins cover.

    A Dataset's items are read in the training process when they are needed, each rank its share
    only. They may draw random numbers (augmentation) from the global generators of torch, NumPy and
    Python: these are seeded for each sample by the training's own generator, so that a training is
    resumed bit for bit and ranks train as one process does. That costs 10 to 20 microseconds a
    sample. Items that test or validate are always drawn alike.
    Raises UsageError for what makes no sense.
    """

    name: str  # type: ignore[misc]  # a class's of other topics, one's own here
    models: Any  # type: ignore[misc]
    _: KW_ONLY
    data: Any
    task: str
    test: Any = None
    validation: Any = None
    collate: Any = None
    metrics: Any = OwnMetrics()
    primary: str | None = None
    classes: int | None = None
    optimizer: OptimizerSpec = OptimizerSpec("adam", lr=1e-3)
    recipe: tuple[str, str] = ("", "")  # type: ignore[misc]
    steps: int = 1000
    batch_size: int = 64
    looks: int = 10
    timeout_s: float = 600.0
    margin: float | None = None  # type: ignore[misc]
    bins: int = 32
    support: float = 4.0

    def __post_init__(self) -> None:
        with self._named():
            self._take()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say in errors of the block which topic they are about."""
        try:
            yield
        except UsageError as error:
            told = f"topic {self.name!r}: "
            raise UsageError(told + str(error).removeprefix(told)) from None

    def _take(self) -> None:
        """Check what was given, and hold what is no plain value by its name."""
        if self.task not in USUAL:
            raise unknown("task", str(self.task), USUAL)
        own: dict[str, Any] = {"models": Choices.of("models", self.models)}
        for model, made in own["models"].items():
            refuse_parameters(model, made)
        for name in ("data", "test", "validation"):
            value = getattr(self, name)
            if value is None and name == "data":
                raise UsageError("data is None: give samples, or a function that returns them")
            own[name] = value if value is None or isinstance(value, Given) else Given(name, value)
        own["collate"] = None if self.collate is None else function("collate", self.collate)
        own["metrics"] = OwnMetrics.of(self.metrics, self.task)
        if not any(self.recipe):
            own["recipe"] = RECIPES[self.task]
        own["recipe"] = tuple(own.get("recipe", self.recipe))
        for name, value in own.items():
            object.__setattr__(self, name, value)
        if self.primary not in (None, *self._better()):
            raise unknown("primary metric", str(self.primary), self._better())

    def _better(self) -> dict[str, str]:
        """Return the directions of one's own metrics, then of the usual ones."""
        return dict(self.metrics.better) | USUAL[self.task]

    @property
    def directions(self) -> Mapping[str, str]:  # type: ignore[override]
        """Directions of all metrics, the primary one first."""
        found = self._better()
        first = self.primary or next(iter(found))
        return {first: found[first]} | found

    @property
    def populates(self) -> tuple[str, ...]:  # type: ignore[override]
        """All models, for data that may be tensors: vmap refuses those that it cannot train."""
        held = self.data.is_function or isinstance(self.data.value, tuple | list)
        return tuple(self.models) if held else ()

    @property
    def budgets(self) -> Mapping[str, Budget]:  # type: ignore[override]
        """Budgets by profile, made of ``steps`` and ``batch_size``."""
        steps = {"smoke": min(SMOKE, self.steps), "quick": self.steps, "full": FULL * self.steps}
        return {
            profile: Budget(
                count,
                self.batch_size,
                timeout_s=self.timeout_s,
                expected_s=max(1.0, count / 1000),
                looks=0 if profile == "smoke" else self.looks,
            )
            for profile, count in steps.items()
        }

    def targets(self) -> dict[str, Any]:
        return self._target.told()

    def depends_on(self) -> list[Any]:
        held = [*self.models.values(), self.data, self.test, self.validation, self.collate]
        held += self.metrics.functions.values()
        return [one.kind for one in held if one is not None and one.kind is not None]

    @property
    def _data(self) -> Data:
        with self._named():
            data = load(self.data, self.test, self.validation, self.collate)
            self._facts.refuse_other(data)
        return data

    @cached_property
    def _facts(self) -> Facts:
        """What was seen of the data; it travels with the topic, so that one process looks."""
        with self._named():
            data = load(self.data, self.test, self.validation, self.collate)
            found = facts(data, self.task, self.classes)
            least = len(data.fold(0)[0])
            if self.batch_size > least:
                raise UsageError(
                    f"batch size {self.batch_size} is over the {least} training samples (of "
                    f"{len(data.train.samples)} in all): set batch_size"
                )
            if isinstance(found.target, Classes):
                refuse_primary(self.primary, found.target.count, self._better())
        return found

    @property
    def _target(self) -> Classes | Numbers:
        return self._facts.target

    def dataset_id(self) -> str:
        name = self.data.name.split("(")[0].split(".")[-1]
        return f"{name}@{self._facts.sha}"

    def data_notes(self) -> list[str]:
        return list(self._facts.notes)

    def prepare(self) -> None:
        with self._named():
            for name in ("data", "test", "validation"):
                if (held := getattr(self, name)) is not None:
                    held.refuse_unpicklable(name)
        for model in self.models:
            cell = Cell(self.name, model, *self.recipe)
            with torch.random.fork_rng(devices=[]), self._named():
                first, again = self.networks(cell)["model"], self.networks(cell)["model"]
                if first is again:
                    raise UsageError(
                        f"models[{model!r}] gives the same network each time: make a new one"
                    )
                try_training(model, again, self._data.train, self._outputs(cell))

    def skip(self, cell: Cell) -> str | None:
        if self.task == "regression" and OUTPUTS not in self.models[cell.model].parameters():
            width = self._form(cell).width
            if width != 1:
                return (
                    f"{cell.loss} needs {width} outputs, and {cell.model} has 1: let its function "
                    f"take {OUTPUTS}"
                )
        return None

    def forms(self, model: str) -> tuple[str, ...]:
        return ("numeric",) if self.task == "regression" else ("categorical",)

    def base_optimizer(self, model: str) -> OptimizerSpec:
        return self.optimizer

    def _form(self, cell: Cell) -> losses.Form:
        if self.task == "regression":
            return losses.numeric(cell.loss, -self.support, self.support, self.bins)
        assert isinstance(self._target, Classes)
        return losses.categorical(cell.loss, self._target.count)

    def _outputs(self, cell: Cell) -> int:
        """Return how many outputs a sample needs."""
        target = self._target
        return target.count if isinstance(target, Classes) else self._form(cell).width

    def networks(self, cell: Cell) -> dict[str, nn.Module]:
        outputs, made = self._outputs(cell), self.models[cell.model]
        told = {OUTPUTS: outputs} if OUTPUTS in made.parameters() else {}
        with self._named():
            network = made.value(**told)
            try_out(cell.model, network, self._data.apart, outputs)
        return {"model": network}

    def players(self, cell: Cell) -> list[Player]:
        form = self._form(cell)

        def objective(networks: Networks, batch: Batch) -> Tensor:
            return form.loss(networks["model"](batch["x"]), batch["y"]).mean()

        return [Player("model", ("model",), objective, self.optimizer)]

    def batches(
        self,
        cell: Cell,
        budget: Budget,
        networks: Networks,
        generator: torch.Generator,
        device: torch.device,
    ) -> Batches:
        train, encode = self._data.drawn(cell.seed, budget.samples), self._target.encode
        if isinstance(train.samples, Items):
            return Read(train.samples, encode, generator, device, train.rows)
        tensors = {"x": train.samples.x, "y": encode(train.samples.y)}
        return Shuffled(tensors, generator, device, train.rows)

    def evaluate(self, networks: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
        return self._measure(networks["model"], cell, self._data.test)

    def validate(self, networks: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
        return self._measure(networks["model"], cell, self._data.fold(cell.seed)[1])

    @torch.no_grad()
    def _measure(self, network: nn.Module, cell: Cell, part: Part) -> dict[str, Any]:
        """Measure a network trained under the cell's loss by the usual metrics and own ones."""
        device, form, target = _device(network), self._form(cell), self._target
        predicted, true = [], []
        for x_B, y_B in part.chunks():
            predicted.append(form.decode(network(x_B.to(device))))
            true.append(target.encode(y_B))
        prediction, true_N = torch.cat(predicted).cpu(), torch.cat(true)
        if isinstance(target, Numbers):
            found = metrics.regression(prediction, true_N)
            prediction, true_N = target.decode(prediction), target.decode(true_N)
        else:
            found = metrics.classification(prediction, true_N)
            if target.count <= TOP:
                found = {name: v for name, v in found.items() if not name.startswith("top3")}
        return found | {
            name: own.value(prediction, true_N) for name, own in self.metrics.functions.items()
        }

    @torch.no_grad()
    def predict(self, network: nn.Module, cell: Cell, x_B: Any) -> np.ndarray:
        """Return what a cell's network says of samples, in the words and units of ``data``.

        x_B: B samples as ``data`` has them (a Dataset's as ``collate`` puts them together), in a
        tensor or array. Returns the B labels, or numbers that are no longer standardised.
        """
        with self._named():
            x_B = pair("samples to predict", x_B, np.arange(len(x_B))).x
            refuse_single(x_B, self._data.train)
        prediction = self._form(cell).decode(network(x_B.to(_device(network)))).cpu()
        return self._target.words(prediction)


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
