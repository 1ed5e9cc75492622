"""Scenes: boxes, masks and labels say the same, and one seed gives one scene."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.topics import datasets
from harness.topics.multitask import scenes
from harness.topics.multitask.scenes import INK, MOST, Canvas

DIGITS = datasets.images("digits")
CANVAS = Canvas(24, 3)
seeds = st.integers(0, 2**31)


def compose(seed, count=None, canvas=CANVAS):
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, MOST + 1, (8,), generator=generator)
    if count is not None:
        counts = torch.full((8,), count)
    return counts, canvas.compose(DIGITS.train_x, DIGITS.train_y, counts, generator)


@given(seeds)
def test_a_seed_composes_one_scene(seed):
    first, second = compose(seed)[1], compose(seed)[1]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first.x, compose(seed + 1)[1].x)


@given(seeds)
def test_a_scene_has_as_many_digits_as_asked_each_in_its_own_cell(seed):
    counts, found = compose(seed)
    assert torch.equal((found.label > 0).sum(1), counts)
    assert all(len(set(cells)) == MOST for cells in found.cell.tolist())
    sides = CANVAS.sides(found.box, found.cell)[found.label > 0]
    assert (sides > -0.5).all() and (sides < 1.5).all(), "what the numeric losses can express"
    middle = (found.box[..., :2] + found.box[..., 2:]) / 2
    away = (middle - CANVAS.middles(found.cell)).abs().amax(-1)[found.label > 0]
    assert (away < 8).all()


@given(seeds)
def test_the_box_of_a_lone_digit_encloses_its_mask_exactly(seed):
    _, found = compose(seed, count=1)
    for mask, label, box in zip(found.mask, found.label[:, 0], found.box[:, 0], strict=True):
        y, x = (mask == label).nonzero().unbind(1)
        assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert set(mask.unique().tolist()) == {0, int(label)}


@given(seeds)
def test_masks_boxes_and_pixels_agree_where_digits_overlap(seed):
    counts, found = compose(seed)
    assert torch.equal(found.mask > 0, found.x[:, 0] > INK)
    for b, count in enumerate(counts.tolist()):
        assert set(found.mask[b].unique().tolist()) <= {0, *found.label[b].tolist()}
        inside = torch.zeros(24, 24, dtype=torch.bool)
        for d in range(count):
            x0, y0, x1, y1 = found.box[b, d].int().tolist()
            assert (found.mask[b, y0:y1, x0:x1] == found.label[b, d]).any(), "none is hidden"
            assert 0 <= x0 < x1 <= 24 and 0 <= y0 < y1 <= 24
            inside[y0:y1, x0:x1] = True
        assert not (found.mask[b] > 0)[~inside].any()
        assert (found.box[b, count:] == 0).all()


def test_later_digits_are_in_front_and_boxes_enclose_what_is_covered():
    """Full squares, so that a hidden part shows: the last one is whole, all boxes are squares."""
    white = torch.full((1, 1, 8, 8), 255, dtype=torch.uint8).expand(10, -1, -1, -1)
    generator = torch.Generator().manual_seed(0)
    canvas = Canvas(24, 3, opaque=True)
    found = canvas.compose(white, torch.arange(10), torch.full((64,), 3), generator)
    hidden = 0
    for b in range(64):
        for d in range(MOST):
            x0, y0, x1, y1 = found.box[b, d].int().tolist()
            assert abs((x1 - x0) - (y1 - y0)) <= 1
            shown = (found.mask[b, y0:y1, x0:x1] == found.label[b, d]).all()
            hidden += not shown
            assert shown or d < MOST - 1
    assert hidden > 10, "they overlap"


def test_boxes_are_the_inverse_of_sides():
    cells = torch.arange(9)[None]
    boxes = torch.rand(1, 9, 4, generator=torch.Generator().manual_seed(0)) * 24
    torch.testing.assert_close(CANVAS.boxes(CANVAS.sides(boxes, cells)), boxes)
    middle_of_the_last = CANVAS.boxes(torch.zeros(1, 9, 4))[0, -1]
    assert middle_of_the_last.tolist() == [20, 20, 20, 20]


def test_a_photograph_covers_its_square_even_where_it_is_dark():
    x = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    x[:, 0, 4, 4] = 255
    generator = torch.Generator().manual_seed(0)
    found = Canvas(48, 3, opaque=True).compose(x, torch.arange(4), torch.ones(4).long(), generator)
    width = found.box[:, 0, 2:] - found.box[:, 0, :2]
    assert (width >= 17).all() and (width <= 24).all()
    assert ((found.mask > 0).sum((1, 2)) == width.prod(1)).all()


def test_an_image_without_ink_is_not_there():
    x = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    found = CANVAS.compose(x, torch.zeros(1).long(), torch.tensor([1]), torch.Generator())
    assert not found.label.any() and not found.box.any() and not found.mask.any()
    assert scenes.around(torch.zeros(2, 5, 5, dtype=torch.bool)).tolist() == [[0] * 4] * 2


@pytest.mark.parametrize("size", [24, 48])
def test_middles(size):
    assert Canvas(size, 3).middles(torch.tensor([0, 5])).tolist() == [
        [size / 6, size / 6],
        [size * 5 / 6, size / 2],
    ]
