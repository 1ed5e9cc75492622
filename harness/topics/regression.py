"""Regression (note 95): linear, svr, mlp in torch; tree and forest by scikit-learn's ``fit``.

Shapes: B batch, F features, W outputs a value (the loss form's width). Targets are standardised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from harness.axes import losses
from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell
from harness.topics import datasets, metrics
from harness.topics.options import TableOptions
from harness.training.batches import Batches, Shuffled
from harness.training.topic import Batch, Networks, Player, Topic

# How scikit-learn's trees read a loss family: two criteria on the value itself; for ce, entropy on
# the value's bin, decoded to the expected bin centre as the torch form is. The other two histogram
# losses would grow the same trees: "log_loss" is scikit-learn's other name for entropy, and the
# information that a split gains is a KL divergence.
ON_VALUES = {"mse": "squared_error", "mae": "absolute_error"}
HISTOGRAMS = ("ce", "kl", "log_loss")
SUPPORT = (-4.0, 4.0)
BINS = 32
# a nuisance parameter like the rate, found with it on validation data, 8 seeds under cosine:
# densities of values have gradients far smaller than errors of values, and need as little decay
DECAY = {
    "linear": dict.fromkeys(losses.FAMILIES, 1e-4),
    "svr": dict.fromkeys(losses.FAMILIES, 3e-3) | dict.fromkeys(HISTOGRAMS, 1e-4),
    "mlp": dict.fromkeys(losses.FAMILIES, 0.03) | {"mse": 0.1, "ce": 0.01, "kl": 0.01},
}
JITTER = 1e-5  # on the diagonal of a kernel's matrix, which rows that repeat would make singular


class RBF(nn.Module):
    """Kernel features x_BF -> phi_BC = K(x, c) L^-T of points c in centres_CF, K(c, c) = L L^T.

    With the linear layer w = L^T a on top this is the kernel machine of scikit-learn's SVR in its
    primal: K(x, c) a, and weight decay is on |w|^2 = a^T K(c, c) a, the kernel's own penalty.
    K is exp(-gamma |x - c|^2), gamma scikit-learn's ``scale``.
    """

    centres_CF: Tensor
    whitening_CC: Tensor  # L^-T

    def __init__(self, centres_CF: Tensor) -> None:
        super().__init__()
        self.gamma = 1.0 / (centres_CF.shape[1] * centres_CF.var(correction=0).item())
        self.register_buffer("centres_CF", centres_CF.clone())
        double_CF = centres_CF.double()
        gram_CC = self._kernel(double_CF, double_CF) + JITTER * torch.eye(len(centres_CF))
        factor_CC = torch.linalg.cholesky(gram_CC)
        unit_CC = torch.eye(len(centres_CF), dtype=torch.float64)
        inverse_CC = torch.linalg.solve_triangular(factor_CC, unit_CC, upper=False)
        self.register_buffer("whitening_CC", inverse_CC.T.to(centres_CF.dtype).contiguous())

    def forward(self, x_BF: Tensor) -> Tensor:
        return self._kernel(x_BF, self.centres_CF) @ self.whitening_CC

    def _kernel(self, x_BF: Tensor, centres_CF: Tensor) -> Tensor:
        # |x - c|^2 by its binomial: differences would take memory for B x C x F of them
        norm_B1, norm_C = x_BF.square().sum(1, keepdim=True), centres_CF.square().sum(1)
        distance_BC = torch.addmm(norm_C, x_BF, centres_CF.T, alpha=-2) + norm_B1
        return (-self.gamma * distance_BC).exp()


@dataclass(frozen=True)
class Regression(TableOptions, Topic):
    """Topic that predicts a numeric target from a table, by default the diabetes table.

    hidden: the mlp's width; trees: the forest's; depth: the tree's; kernel_points: the svr's at
    most, inputs of training rows (of those that validate too: no target of theirs is seen).
    """

    hidden: int = 64
    trees: int = 100
    depth: int = 4
    kernel_points: int = 2000

    name: ClassVar[str] = "regression"
    models: ClassVar[tuple[str, ...]] = ("linear", "svr", "tree", "forest", "mlp")
    fits: ClassVar[tuple[str, ...]] = ("tree", "forest")
    populates: ClassVar[tuple[str, ...]] = ("linear", "svr", "mlp")
    on_cpu: ClassVar[tuple[str, ...]] = ("linear", "svr", "mlp")
    recipe: ClassVar[tuple[str, str]] = ("mse", "cosine")
    directions: ClassVar[Mapping[str, str]] = {"mse": "min", "mae": "min", "r2": "max"}
    budgets: ClassVar[Mapping[str, Budget]] = {
        "smoke": Budget(steps=60, batch_size=64, timeout_s=60, expected_s=0.5),
        "quick": Budget(steps=500, batch_size=64, timeout_s=120, expected_s=0.3, looks=20),
        "full": Budget(steps=4000, batch_size=64, timeout_s=600, expected_s=8, looks=20),
    }

    def dataset_id(self) -> str:
        name = "diabetes" if self.table is None else Path(self.table.removesuffix(".gz")).stem
        return f"{name}@{self._data.sha}"

    def data_notes(self) -> list[str]:
        train, test = (_beyond(y_N) for y_N in (self._data.train_y, self._data.test_y))
        if not train + test:
            return list(self._data.notes)
        low, high = SUPPORT
        return [
            *self._data.notes,
            f"{train} training and {test} test targets lie outside {low:g} to {high:g} standard "
            f"deviations from the mean: {', '.join(HISTOGRAMS)} clip them and never predict "
            "beyond, which counts against them beside the other losses",
        ]

    @property
    def _data(self) -> datasets.Split:
        batch_size = max(budget.batch_size for budget in self.budgets.values())
        return datasets.table(self.table, self.target, batch_size)

    def skip(self, cell: Cell) -> str | None:
        if cell.model not in self.fits:
            return None
        if cell.loss in HISTOGRAMS[1:]:
            return f"trees under {cell.loss} are those under ce: both split by entropy"
        if cell.loss not in (*ON_VALUES, "ce"):
            return f"scikit-learn's trees have no {cell.loss} criterion"
        if cell.schedule != "constant":
            return f"{cell.model} is grown by scikit-learn: it has no learning rate to schedule"
        if cell.parallel != "single":
            return f"{cell.model} is grown by scikit-learn: it has no gradient to share"
        return None

    def forms(self, model: str) -> tuple[str, ...]:
        return ("numeric",)

    def base_optimizer(self, model: str) -> OptimizerSpec:
        lr = 0.003 if model == "mlp" else 0.02
        decay = DECAY.get(model, DECAY["linear"])["mse"]
        return OptimizerSpec("sgd", lr=lr, adaptive_lr=2e-3, momentum=0.9, weight_decay=decay)

    def networks(self, cell: Cell) -> dict[str, nn.Module]:
        features = self._data.train_x.shape[1]
        width = losses.numeric(cell.loss, *SUPPORT, bins=BINS).width
        if cell.model == "linear":
            return {"model": nn.Linear(features, width)}
        if cell.model == "svr":
            centres_CF = self._data.train_x[: self.kernel_points]
            return {"model": nn.Sequential(RBF(centres_CF), nn.Linear(len(centres_CF), width))}
        return {
            "model": nn.Sequential(
                nn.Linear(features, self.hidden),
                nn.ReLU(),
                nn.Linear(self.hidden, self.hidden),
                nn.ReLU(),
                nn.Linear(self.hidden, width),
            )
        }

    def players(self, cell: Cell) -> list[Player]:
        form = losses.numeric(cell.loss, *SUPPORT, bins=BINS)

        def objective(networks: Networks, batch: Batch) -> Tensor:
            return form.loss(networks["model"](batch["x"]), batch["y"]).mean()

        optimizer = self.base_optimizer(cell.model)
        decay = DECAY[cell.model].get(cell.loss, optimizer.weight_decay)
        optimizer = replace(optimizer, weight_decay=decay)
        return [Player("regressor", ("model",), objective, optimizer)]

    def batches(
        self,
        cell: Cell,
        budget: Budget,
        networks: Networks,
        generator: torch.Generator,
        device: torch.device,
    ) -> Batches:
        rows = self._data.fold(cell.seed).train[: budget.samples]
        tensors = {"x": self._data.train_x, "y": self._data.train_y}
        return Shuffled(tensors, generator, device, rows)

    def fit(self, cell: Cell) -> Any:
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        shape: dict[str, Any] = {"max_depth": self.depth, "random_state": cell.seed}
        if cell.model == "forest":
            shape = {"n_estimators": self.trees, "min_samples_leaf": 3, "random_state": cell.seed}
        rows = self._data.fold(cell.seed).train
        x_NF, y_N = self._data.train_x[rows].numpy(), self._data.train_y[rows].numpy()
        if cell.loss in ON_VALUES:
            regressor = DecisionTreeRegressor if cell.model == "tree" else RandomForestRegressor
            return regressor(criterion=ON_VALUES[cell.loss], **shape).fit(x_NF, y_N)
        classifier = DecisionTreeClassifier if cell.model == "tree" else RandomForestClassifier
        return classifier(criterion="entropy", **shape).fit(x_NF, _bin(y_N))

    def evaluate(self, networks: Mapping[str, Any], cell: Cell) -> dict[str, float]:
        return _measure(networks["model"], cell, self._data.test_x, self._data.test_y)

    def validate(self, networks: Mapping[str, Any], cell: Cell) -> dict[str, float]:
        rows = self._data.fold(cell.seed).validation
        x_VF, y_V = self._data.train_x[rows], self._data.train_y[rows]
        return _measure(networks["model"], cell, x_VF, y_V)

    def baseline(self, cell: Cell) -> dict[str, float]:
        if cell.model not in self.fits:
            return super().baseline(cell)
        rows = self._data.fold(cell.seed).train
        mean_N = self._data.train_y[rows].mean().expand(len(self._data.test_y))
        return metrics.regression(mean_N, self._data.test_y)


@torch.no_grad()
def _measure(model: Any, cell: Cell, x_NF: Tensor, y_N: Tensor) -> dict[str, float]:
    """Measure a trained model of the cell's loss on rows and their targets."""
    if isinstance(model, nn.Module):
        form = losses.numeric(cell.loss, *SUPPORT, bins=BINS)
        predicted_N = form.decode(model(x_NF.to(next(model.parameters()).device))).cpu()
    elif cell.loss in ON_VALUES:
        predicted_N = torch.from_numpy(model.predict(x_NF.numpy()))
    else:
        low, high = SUPPORT
        centres_K = low + (model.classes_ + 0.5) * (high - low) / BINS
        predicted_N = torch.from_numpy(model.predict_proba(x_NF.numpy()) @ centres_K)
    return metrics.regression(predicted_N, y_N)


def _beyond(y_N: Tensor) -> int:
    """Return how many standardised targets lie outside SUPPORT."""
    low, high = SUPPORT
    return int(((y_N < low) | (y_N > high)).sum())


def _bin(y_N: np.ndarray) -> np.ndarray:
    """Map standardised targets to indices of BINS equal bins over SUPPORT, clipped at the ends."""
    low, high = SUPPORT
    return np.clip((y_N - low) / (high - low) * BINS, 0, BINS - 1).astype("int64")
