"""Multi-task learning (note 99): one trunk and three heads on scenes of one to three digits.

Which digits are there: ten yes-or-no questions. Where: whether a cell of a grid has a digit's
middle (YOLO, Redmon et al. 2016) and how far it reaches from there (FCOS, Tian et al. 2019),
whichever digit it is. Which pixel shows which: a path back up (FPN, Lin et al. 2017). The models
balance the tasks: equal weights, learned uncertainty, PCGrad. The only_* models are the same trunk
with one head: what a task gains or loses by the others is measured against them.

Shapes: B scenes, C channels, H height, W width, F features, G cells a side, N cells, D digits a
scene at most, K classes, L labels (K and the ground), T tasks; V outputs a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.axes import losses, parallel
from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell
from harness.topics import datasets, metrics
from harness.topics.multitask.balancing import Uncertainty, pcgrad
from harness.topics.multitask.networks import (
    LABELS,
    Classification,
    Detection,
    Segmentation,
    Trunk,
)
from harness.topics.multitask.scenes import MOST, Arrangement, Canvas, Scenes
from harness.topics.multitask.task_losses import present, sides_form, task_losses
from harness.topics.options import SHAPES, ImageOptions
from harness.training.batches import Batches
from harness.training.topic import Batch, Networks, Player, Topic
from harness.training.transfers import Ahead

CELLS = 3  # a side
TASKS = ("classification", "detection", "segmentation")
MODELS = {
    **dict.fromkeys(("equal", "uncertainty", "pcgrad"), TASKS),
    **{f"only_{task}": (task,) for task in TASKS},
}
HELD_OUT = 512  # scenes of each kind
SCENE_SEED = 99


class SceneBatches(Batches):
    """Endless batches of newly composed scenes; their only state is the loop's generator.

    order_BTT is PCGrad's and the same in every row, so that each rank's share has it.
    """

    def __init__(
        self,
        canvas: Canvas,
        x_NCHW: Tensor,
        y_N: Tensor,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.canvas, self.x_NCHW, self.y_N = canvas, x_NCHW.to(device), y_N.to(device)
        self.generator = generator
        self._ahead = Ahead(self._choose, generator, device)

    def draw(self, size: int) -> dict[str, Tensor]:
        """Return ``size`` scenes of 1 to 3 digits: the fields of ``Scenes``, and order_BTT."""
        chosen = self._ahead.next(size, max(1, len(self.x_NCHW) // size))
        order_TT = chosen.pop("order")
        scenes = self.canvas.draw(self.x_NCHW, self.y_N, Arrangement(**chosen))
        return scenes._asdict() | {"order": order_TT.expand(size, -1, -1)}

    def _choose(self, size: int, ahead: int) -> dict[str, Tensor]:
        """Return what is random in a batch: the fields of an ``Arrangement``, and order_TT."""
        count_B = torch.randint(1, MOST + 1, (size,), generator=self.generator)
        arrangement = self.canvas.arrange(len(self.x_NCHW), count_B, self.generator)
        order_TT = torch.rand(len(TASKS), len(TASKS), generator=self.generator).argsort(1)
        return arrangement._asdict() | {"order": order_TT}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._ahead.forget()


@dataclass(frozen=True)
class Multitask(ImageOptions, Topic):
    """Topic that learns to classify, detect and segment the digits of the same scenes.

    features: the trunk's channels after the first halving. Canvases have 3 x 3 cells and 24 pixels
    a side for the 8x8 digits, 48 for larger images.
    """

    features: int = 24

    name: ClassVar[str] = "multitask"
    models: ClassVar[tuple[str, ...]] = tuple(MODELS)
    recipe: ClassVar[tuple[str, str]] = ("ce", "one_cycle")
    untrainable: ClassVar[Mapping[str, str]] = {
        "mae": "the absolute error of probabilities seeks the likelier answer, and a digit is "
        "absent from four scenes of five: absent is its answer, and nothing pulls it away (Lin "
        "2002). In quick on the digits, at 0.1 times the rate and under constant, it names all "
        "digits in 0.30 of the scenes over three seeds, cross-entropy under one_cycle in 0.84."
    }
    directions: ClassVar[Mapping[str, str]] = {
        "accuracy": "max",
        "box_iou": "max",
        "miou": "max",
        "ap50": "max",
    }
    undivided: ClassVar[tuple[str, ...]] = ("pcgrad",)
    alone: ClassVar[Mapping[str, str]] = {
        "accuracy": "only_classification",
        "box_iou": "only_detection",
        "miou": "only_segmentation",
    }
    budgets: ClassVar[Mapping[str, Budget]] = {
        "smoke": Budget(steps=12, batch_size=32, samples=256, timeout_s=120, expected_s=3),
        "quick": Budget(steps=800, batch_size=32, timeout_s=300, expected_s=13, looks=10),
        "full": Budget(steps=8000, batch_size=32, timeout_s=7200, expected_s=200, looks=20),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse_remainder("features", 4)  # the groups of its GroupNorms

    def dataset_id(self) -> str:
        return f"{self.dataset}@{self._data.sha}"

    def skip(self, cell: Cell) -> str | None:
        if cell.model == "pcgrad" and parallel.is_sharded(cell.parallel):
            return "pcgrad compares whole gradients of the trunk, which fsdp keeps in shards"
        return None

    @property
    def _data(self) -> datasets.Split:
        return datasets.images(self.dataset, self.data_dir, self.download)

    @property
    def _halvings(self) -> int:
        """Return how often the canvas is halved until a cell is one pixel."""
        return 3 if SHAPES[self.dataset][1] == 8 else 4

    @property
    def canvas(self) -> Canvas:
        """Return the canvas that scenes are composed on."""
        photographs = SHAPES[self.dataset][0] == 3
        return Canvas(CELLS * 2**self._halvings, CELLS, opaque=photographs)

    def forms(self, model: str) -> tuple[str, ...]:
        return ("categorical", "numeric")

    def base_optimizer(self, model: str) -> OptimizerSpec:
        return OptimizerSpec("adam", lr=8e-3, adaptive_lr=2e-3)

    def networks(self, cell: Cell) -> dict[str, nn.Module]:
        features = tuple(self.features * 2**level for level in range(self._halvings))
        heads: dict[str, Callable[[], nn.Module]] = {
            "classification": lambda: Classification(features),
            "detection": lambda: Detection(features, sides_form(cell.loss).width),
            "segmentation": lambda: Segmentation(features),
        }
        networks: dict[str, nn.Module] = {"trunk": Trunk(SHAPES[self.dataset][0], features)}
        networks |= {task: heads[task]() for task in MODELS[cell.model]}
        if cell.model == "uncertainty":
            networks["balance"] = Uncertainty(len(TASKS))
        return networks

    def players(self, cell: Cell) -> list[Player]:
        tasks = MODELS[cell.model]
        loss_of = task_losses(cell.loss, self.canvas)

        def objective(networks: Networks, batch: Batch) -> Tensor:
            levels = networks["trunk"](batch["x"])
            each_T = torch.stack([loss_of[t](networks[t](levels), batch) for t in tasks])
            if cell.model == "uncertainty":
                return networks["balance"](each_T[None])  # one row, of which dp makes no shares
            if cell.model == "pcgrad":
                heads = [networks[task] for task in tasks]
                return pcgrad(each_T, networks["trunk"], heads, batch["order"][0])
            return each_T.sum()

        names = ("trunk", *tasks, *(["balance"] if cell.model == "uncertainty" else []))
        return [Player("learner", names, objective, self.base_optimizer(cell.model))]

    def batches(
        self,
        cell: Cell,
        budget: Budget,
        networks: Networks,
        generator: torch.Generator,
        device: torch.device,
    ) -> Batches:
        rows = self._data.fold(cell.seed).train[: budget.samples]
        x_NCHW, y_N = self._data.train_x[rows], self._data.train_y[rows]
        return SceneBatches(self.canvas, x_NCHW, y_N, generator, device)

    def held_out(self, most: int) -> Scenes:
        """Compose scenes of 1 to ``most`` test digits, which no training sees; always the same."""
        return self._compose(self._data.test_x, self._data.test_y, most)

    def _compose(self, x_NCHW: Tensor, y_N: Tensor, most: int) -> Scenes:
        """Compose HELD_OUT scenes of 1 to ``most`` of these digits, always the same."""
        generator = torch.Generator().manual_seed(SCENE_SEED)
        count_B = torch.randint(1, most + 1, (HELD_OUT,), generator=generator)
        return self.canvas.compose(x_NCHW, y_N, count_B, generator)

    def evaluate(self, networks: Networks, cell: Cell) -> dict[str, Any]:
        """Measure each learned task on scenes of 1 to 3 digits, and on scenes of one as single_*.

        A model has the metrics of the tasks it learns. accuracy: the share of scenes with exactly
        the right digits called present; single_accuracy: the share whose likeliest of ten digits is
        right. box_iou, ap50: ``metrics.detection``. miou: over the digits and the ground.
        """
        found = {}
        for prefix, most in (("", MOST), ("single_", 1)):
            scenes = self.held_out(most)
            outputs = self._outputs(networks, cell, scenes)
            for name, value in scores(outputs, scenes, cell.loss, self.canvas).items():
                found[prefix + name] = value
        if "classification" in outputs:
            likeliest_B = presence(outputs["classification"], cell.loss).argmax(1)
            found["single_accuracy"] = metrics.share(likeliest_B + 1 == scenes.label[:, 0])
        return found

    def validate(self, networks: Networks, cell: Cell) -> dict[str, Any]:
        rows = self._data.fold(cell.seed).validation
        scenes = self._compose(self._data.train_x[rows], self._data.train_y[rows], MOST)
        return scores(self._outputs(networks, cell, scenes), scenes, cell.loss, self.canvas)

    @torch.no_grad()
    def _outputs(self, networks: Networks, cell: Cell, scenes: Scenes) -> dict[str, Tensor]:
        """Return each learned task's outputs on scenes, on the CPU."""
        device = next(networks["trunk"].parameters()).device
        parts = []
        for x_BCHW in scenes.x.split(128):
            levels = networks["trunk"](x_BCHW.to(device))
            parts.append({task: networks[task](levels) for task in MODELS[cell.model]})
        return {task: torch.cat([part[task] for part in parts]).cpu() for task in parts[0]}


def presence(outputs_BK2: Tensor, family: str) -> Tensor:
    """Return the probability that each digit is there, (B, K), from classification's outputs."""
    return losses.categorical(family, 2).decode(outputs_BK2)[..., 1]


def scores(
    outputs: Mapping[str, Tensor], scenes: Scenes, family: str, canvas: Canvas
) -> dict[str, float]:
    """Compute the metrics of the tasks whose outputs are given, on scenes on the CPU."""
    binary, which = losses.categorical(family, 2), losses.categorical(family, LABELS)
    found: dict[str, float] = {}
    if "classification" in outputs:
        called_BK = presence(outputs["classification"], family) > 0.5
        found["accuracy"] = metrics.share((called_BK == present(scenes.label)).all(1))
    if "detection" in outputs:
        score_BN = binary.decode(outputs["detection"][..., :2])[..., 1]
        sides_BN4V = outputs["detection"][..., 2:].unflatten(-1, (4, -1))
        box_BN4 = canvas.boxes((sides_form(family).decode(sides_BN4V) + 2) / 4)
        found |= metrics.detection(score_BN, box_BN4, scenes.box)
    if "segmentation" in outputs:
        label_BHW = which.decode(outputs["segmentation"]).argmax(-1)
        found["miou"] = metrics.mean_iou(label_BHW, scenes.mask, LABELS)
    return found
