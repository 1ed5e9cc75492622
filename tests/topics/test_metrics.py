"""Metrics against torchmetrics, torchvision and scikit-learn, and worked by hand."""

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.detection import MeanAveragePrecision
from torchvision import ops

from harness.topics import metrics

seeds = st.integers(0, 2**31)


def boxes(*shape, generator):
    corner = 12 * torch.rand(*shape, 2, generator=generator)
    side = 2 + 6 * torch.rand(*shape, 2, generator=generator)
    return torch.cat([corner, corner + side], -1)


def around_truth(seed, scenes=12):
    """True boxes, and predictions of which some are near one; distinct scores."""
    generator = torch.Generator().manual_seed(seed)
    truth = boxes(scenes, 3, generator=generator)
    truth[torch.rand(scenes, 3, generator=generator) < 0.3] = 0
    box = boxes(scenes, 6, generator=generator)
    near = truth + torch.rand(scenes, 3, 4, generator=generator) - 0.5
    box[:, :3] = near.where((truth[..., 2] > 0)[..., None], box[:, :3])
    score = torch.randperm(scenes * 6, generator=generator).reshape(scenes, 6) / (scenes * 6)
    score[:, :3] += 0.3
    return score, box, truth


@given(seeds)
def test_box_iou_is_torchvisions(seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = boxes(5, generator=generator), boxes(7, generator=generator)
    torch.testing.assert_close(metrics.box_iou(a, b), ops.box_iou(a, b))


def test_box_iou_of_empty_boxes_is_0():
    assert metrics.box_iou(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0
    inside_out = torch.tensor([[5.0, 5.0, 2.0, 2.0]])
    assert metrics.box_iou(inside_out, torch.tensor([[0.0, 0.0, 9.0, 9.0]])).item() == 0


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_torchmetrics(seed):
    score, box, truth = around_truth(seed)
    reference = MeanAveragePrecision(iou_thresholds=[0.5])
    for s, b, t in zip(score, box, truth, strict=True):
        real = t[(t[:, 2:] > t[:, :2]).all(1)]
        reference.update(
            [{"boxes": b, "scores": s, "labels": torch.zeros(len(b), dtype=torch.int64)}],
            [{"boxes": real, "labels": torch.zeros(len(real), dtype=torch.int64)}],
        )
    expected = reference.compute()["map_50"].item()
    assert 0.3 < expected < 1
    assert metrics.detection(score, box, truth)["ap50"] == pytest.approx(expected, abs=1e-6)


def test_detection_by_hand():
    """Two digits, three boxes: one right (IoU 1), a second on the same, one on part of the other.

    In order of score: right, duplicate, miss (IoU 0.4): precision 1, 1/2, 1/3 at recall 1/2, so
    ap50 is the share of the 101 recalls up to 0.5.
    """
    truth = torch.tensor([[[0.0, 0, 4, 4], [10, 10, 20, 20], [0, 0, 0, 0]]])
    box = torch.tensor([[[10.0, 10, 20, 14], [0, 0, 4, 4], [0, 0, 4, 3]]])
    score = torch.tensor([[0.6, 0.9, 0.8]])
    found = metrics.detection(score, box, truth)
    assert found == {"ap50": pytest.approx(51 / 101), "box_iou": pytest.approx((1 + 0.4) / 2)}
    assert metrics.detection(score, box, truth, 0.7)["box_iou"] == pytest.approx(0.5), "missed"


@given(seeds)
def test_perfect_boxes_score_1_and_none_is_taken_twice(seed):
    truth = around_truth(seed)[2]
    perfect = torch.cat([truth, torch.zeros_like(truth)], 1)
    sure = torch.cat([(truth[..., 2] > 0).float(), torch.zeros(len(truth), 3)], 1)
    assert metrics.detection(sure, perfect, truth) == {"ap50": 1.0, "box_iou": 1.0}
    taken = metrics.match(metrics.box_iou(perfect, truth), 0.0)
    for row in taken.tolist():
        found = [t for t in row if t >= 0]
        assert len(found) == len(set(found))


@given(seeds)
def test_mean_iou_is_torchmetrics(seed):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 4, (3, 5, 5), generator=generator)
    predicted = torch.where(
        torch.rand(3, 5, 5, generator=generator) < 0.5,
        target,
        torch.randint(0, 5, (3, 5, 5), generator=generator),
    )
    reference = MulticlassJaccardIndex(num_classes=6, average="none")(predicted, target)
    occurs = torch.isin(torch.arange(6), torch.cat([target, predicted]))
    expected = reference[occurs].mean().item()
    assert metrics.mean_iou(predicted, target, 6) == pytest.approx(expected, abs=1e-6)


def test_mean_iou_by_hand():
    target, predicted = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    assert metrics.mean_iou(predicted, target, 3) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_classification_metrics_against_scikit_learn():
    p = torch.randn(200, 10, generator=torch.Generator().manual_seed(0)).softmax(-1)
    y = torch.randint(10, (200,), generator=torch.Generator().manual_seed(1))
    got = metrics.classification(p, y)
    assert got["accuracy"] == pytest.approx(accuracy_score(y, p.argmax(-1)))
    sure = torch.eye(10)[y]
    perfect = {"accuracy": 1.0, "top3": 1.0, "ece": 0.0, "accuracy_se": 0.0, "top3_se": 0.0}
    assert metrics.classification(sure, y) == perfect
    right = (p.argmax(-1) == y).double().numpy()
    assert got["accuracy_se"] == pytest.approx(scipy.stats.sem(right))
    assert metrics.classification(sure, (y + 1) % 10)["ece"] == pytest.approx(1.0)


def test_classification_metrics_of_what_is_no_number_are_none():
    unknown = torch.full((4, 10), torch.nan)
    names = {"accuracy", "top3", "ece", "accuracy_se", "top3_se"}
    for p in (unknown, torch.cat([torch.eye(10), unknown])):
        found = metrics.classification(p, torch.arange(len(p)) % 10)
        assert set(found) == names and all(value != value for value in found.values())
