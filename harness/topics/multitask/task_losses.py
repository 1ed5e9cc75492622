"""The losses of multi-task learning's three tasks, weighed alike under every loss family.

Shapes: B scenes, D digits a scene at most, H height, W width, N cells, K classes, L labels (K and
the ground); O outputs a cell; V outputs a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.axes import losses
from harness.topics.multitask.networks import CLASSES, LABELS
from harness.topics.multitask.scenes import MOST, Canvas
from harness.training.topic import Batch

VOTES = ("hinge", "mae")  # families whose best answer is the likelier one, however likely it is
COUNTS = range(1, MOST + 1)
PRESENT = sum(1 - (1 - 1 / CLASSES) ** n for n in COUNTS) / len(
    COUNTS
)  # how often a digit is there


def answers_form(family: str, answers: int) -> losses.Form:
    """Return ``losses.categorical`` for so many answers, scaled to the cost of ignorance.

    Outputs of 0 cost what they cost under ce. The families' own scales differ by up to 30 between
    tasks (log_loss sums over labels and thresholds), so that one task would drown another.
    """
    form, ce = losses.categorical(family, answers), losses.categorical("ce", answers)
    target_K = torch.arange(answers)
    return _scaled(form, _ratio(_ignorance(ce, answers, target_K), form, answers, target_K))


def sides_form(family: str) -> losses.Form:
    """Return the loss of a box's four sides, as ``losses.numeric`` on values in -4..4, scaled.

    Distances of -0.5 to 1.5 cells from a cell's middle are mapped to that range; outputs of 0 cost
    what they cost under ce on average over it.
    """
    form, ce = losses.numeric(family, -4, 4), losses.numeric("ce", -4, 4)
    target_N = torch.linspace(-4, 4, 33)
    return _scaled(form, _ratio(_ignorance(ce, ce.width, target_N), form, form.width, target_N))


def _ignorance(form: losses.Form, outputs: int, target_N: Tensor) -> float:
    """Return the mean loss of ``outputs`` zeros for each target."""
    return form.loss(torch.zeros(len(target_N), outputs), target_N).mean().item()


def _ratio(cost: float, form: losses.Form, outputs: int, target_N: Tensor) -> float:
    """Return how many times a form's own cost of ignorance a cost is; infinite if that is 0."""
    own = _ignorance(form, outputs, target_N)
    return cost / own if own else math.inf


def _scaled(form: losses.Form, scale: float) -> losses.Form:
    """Return the form with ``scale`` times its loss, or as it is if that would turn it around.

    A loss of one's own may cost nothing at outputs of 0, or less.
    """
    if not 0 < scale < math.inf:
        return form
    return replace(form, loss=lambda outputs, target: scale * form.loss(outputs, target))


def present(label_BD: Tensor) -> Tensor:
    """Return which digits are there, (B, K): 0 or 1."""
    return F.one_hot(label_BD, LABELS).amax(1)[:, 1:]


def task_losses(family: str, canvas: Canvas) -> dict[str, Callable[[Tensor, Batch], Tensor]]:
    """Return each task's loss, a function of its head's outputs and a batch to a mean over scenes.

    Means over scenes average over shards exactly. classification sums a scene's ten questions, as
    the log-likelihood of independent answers does; detection adds the mean over cells to the mean
    over the digits' sides; segmentation counts ink and ground half each, for there is ten times as
    much ground.

    hinge and mae look for the likelier answer, not for its probability (Lin 2002): of a digit that
    is there in a fifth of the scenes they learn nothing until a feature makes it likelier than not.
    So they count the answers *absent* and *present* half each (Lin, Lee & Wahba 2002).
    """
    binary, which = answers_form(family, 2), answers_form(family, LABELS)
    sides = sides_form(family)

    def classification(outputs_BK2: Tensor, batch: Batch) -> Tensor:
        present_BK = present(batch["label"])
        loss_BK = binary.loss(outputs_BK2, present_BK)
        if family in VOTES:
            loss_BK = loss_BK * torch.where(present_BK > 0, 0.5 / PRESENT, 0.5 / (1 - PRESENT))
        return loss_BK.sum(1).mean()

    def detection(outputs_BNO: Tensor, batch: Batch) -> Tensor:
        there_BD = (batch["label"] > 0).to(outputs_BNO.dtype)
        there_BN = torch.zeros_like(outputs_BNO[..., 0]).scatter(1, batch["cell"], there_BD)
        objectness = binary.loss(outputs_BNO[..., :2], there_BN.long()).mean()
        index_BDO = batch["cell"][..., None].expand(-1, -1, outputs_BNO.shape[-1])
        sides_BD4V = outputs_BNO.gather(1, index_BDO)[..., 2:].unflatten(-1, (4, -1))
        target_BD4 = 4 * canvas.sides(batch["box"], batch["cell"]) - 2
        loss_BD = sides.loss(sides_BD4V, target_BD4).mean(-1)
        return objectness + ((loss_BD * there_BD).sum(1) / there_BD.sum(1).clamp_min(1)).mean()

    def segmentation(outputs_BHWL: Tensor, batch: Batch) -> Tensor:
        loss_BHW, ink_BHW = which.loss(outputs_BHWL, batch["mask"]), batch["mask"] > 0
        halves = [
            (loss_BHW * on).sum((1, 2)) / on.sum((1, 2)).clamp_min(1) for on in (ink_BHW, ~ink_BHW)
        ]
        return torch.stack(halves).mean()

    return {task.__name__: task for task in (classification, detection, segmentation)}
