"""VGG (note 94; Simonyan & Zisserman 2014): torchvision's networks, fitted to the image size.

Shapes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.axes import losses
from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell
from harness.topics import datasets, metrics
from harness.topics.options import ImageOptions
from harness.training.batches import Batches, Shuffled
from harness.training.topic import Batch, Networks, Player, Topic

LAYERS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}
CLASSES = 10
SIZE = 32


@dataclass(frozen=True)
class VGG(ImageOptions, Topic):
    """Topic that classifies images by torchvision's VGG networks.

    width is the first layer's channels: torchvision's 64, or 16 for the 8x8 digits, which hold
    too little to need more. There is no dropout, so that parallel configurations are comparable.
    """

    width: int | None = None

    name: ClassVar[str] = "vgg"
    models: ClassVar[tuple[str, ...]] = tuple(LAYERS)
    recipe: ClassVar[tuple[str, str]] = ("ce", "one_cycle")
    margin: ClassVar[float | None] = 0.01
    untrainable: ClassVar[Mapping[str, str]] = {
        "mae": "the gradient of the absolute error of probabilities is cross-entropy's times the "
        "true class's probability, so that what is most wrong pulls least (Zhang & Sabuncu 2018). "
        "The best of 43 trainings of vgg11 in quick on the digits, at 0.001 to 10 times the rate, "
        "validates at 0.83; the best recipe over three seeds at 0.76."
    }
    directions: ClassVar[Mapping[str, str]] = {"accuracy": "max", "top3": "max", "ece": "min"}
    budgets: ClassVar[Mapping[str, Budget]] = {
        "smoke": Budget(steps=12, batch_size=32, samples=256, timeout_s=120, expected_s=4),
        "quick": Budget(steps=300, batch_size=32, timeout_s=300, expected_s=7, looks=10),
        "full": Budget(steps=937, batch_size=64, timeout_s=7200, expected_s=80, looks=20),
    }

    def dataset_id(self) -> str:
        return f"{self.dataset}@{self._data.sha}"

    @property
    def _data(self) -> datasets.Split:
        return datasets.images(self.dataset, self.data_dir, self.download)

    def forms(self, model: str) -> tuple[str, ...]:
        return ("categorical",)

    def base_optimizer(self, model: str) -> OptimizerSpec:
        return OptimizerSpec("adam", lr=1e-3, adaptive_lr=5e-4)

    def networks(self, cell: Cell) -> dict[str, nn.Module]:
        from torchvision.models import vgg  # a second, of which the process that plans has no need

        width = self.width or (16 if self.dataset == "digits" else 64)
        plan = [n if n == "M" else int(n) * width // 64 for n in vgg.cfgs[LAYERS[cell.model]]]
        channels = 8 * width
        with torch.device("meta"):  # torchvision's own classifier would be drawn to be replaced
            network = vgg.VGG(nn.Identity(), init_weights=False)
        network.features = vgg.make_layers(plan)
        network.avgpool = nn.AdaptiveAvgPool2d(1)
        network.classifier = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(True), nn.Linear(channels, CLASSES)
        )
        first = self._data.train_x.shape[1]
        network.features[0] = nn.Conv2d(first, plan[0], kernel_size=3, padding=1)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.constant_(module.get_parameter("bias"), 0.0)
        nn.init.normal_(network.classifier[-1].weight, std=0.01)
        return {"model": network}

    def players(self, cell: Cell) -> list[Player]:
        form = losses.categorical(cell.loss, CLASSES)

        def objective(networks: Networks, batch: Batch) -> torch.Tensor:
            return form.loss(networks["model"](batch["x"]), batch["y"]).mean()

        return [Player("classifier", ("model",), objective, self.base_optimizer(cell.model))]

    def batches(
        self,
        cell: Cell,
        budget: Budget,
        networks: Networks,
        generator: torch.Generator,
        device: torch.device,
    ) -> Batches:
        rows = self._data.fold(cell.seed).train[: budget.samples]
        x_BCHW, y_B = datasets.fit_images(self._data.train_x[rows], SIZE), self._data.train_y[rows]
        return Shuffled({"x": x_BCHW, "y": y_B}, generator, device)

    def evaluate(self, networks: Mapping[str, Any], cell: Cell) -> dict[str, float]:
        return _measure(networks["model"], cell, self._data.test_x, self._data.test_y)

    def validate(self, networks: Mapping[str, Any], cell: Cell) -> dict[str, float]:
        rows = self._data.fold(cell.seed).validation
        x_VCHW, y_V = self._data.train_x[rows], self._data.train_y[rows]
        return _measure(networks["model"], cell, x_VCHW, y_V)


@torch.no_grad()
def _measure(network: nn.Module, cell: Cell, x_NCHW: Tensor, y_N: Tensor) -> dict[str, float]:
    """Measure a network trained under the cell's loss on images and their labels."""
    device = next(network.parameters()).device
    outputs_NK = torch.cat(
        [network(datasets.fit_images(part.to(device), SIZE)) for part in x_NCHW.split(256)]
    )
    probabilities_NK = losses.categorical(cell.loss, CLASSES).decode(outputs_NK).cpu()
    return metrics.classification(probabilities_NK, y_N)
