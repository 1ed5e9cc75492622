"""Cells chosen by values of axes."""

import pytest
from toy import Toy

from harness import chosen, matrix
from harness.cell import UsageError
from harness.topics.regression import Regression

TOPICS = {"toy": Toy(), "regression": Regression()}


def ids(profile, seeds=None, **told):
    return [c.id for c in chosen.select(TOPICS, profile, told, seeds)["toy"]]


def test_an_axis_that_is_not_chosen_has_the_recipe_s_value():
    assert ids("quick", model="line", loss="ce, kl,ce") == [
        "toy/line-ce-cosine-single-s0",
        "toy/line-kl-cosine-single-s0",
    ]
    assert ids("smoke", seeds=3, schedule="adam", parallel="ddp,fsdp", model="dropout") == [
        "toy/dropout-mse-adam-ddp-s0",
        "toy/dropout-mse-adam-fsdp-s0",
    ]
    assert ids("quick", seeds=2, loss="ce", model="line")[1] == "toy/line-ce-cosine-single-s1"


def test_full_and_race_keep_all_values_of_an_axis_that_is_not_chosen():
    axes = matrix.axes()
    losses, schedules, parallel = (len(some) for some in axes.values())
    assert len(ids("full", loss="ce")) == 2 * schedules * parallel * 3
    assert len(ids("full", seeds=1, parallel="single", model="line")) == losses * schedules
    assert len(ids("race", schedule="adam")) == 2 * losses
    assert ids("race", loss="ce", schedule="adam", parallel="ddp", model="line") == [
        "toy/line-ce-adam-ddp-s0"
    ]


def test_an_estimator_has_no_schedule_unless_one_is_chosen():
    found = chosen.select(TOPICS, "quick", {"model": "tree", "loss": "mse"})
    assert [cell.schedule for cell in found["regression"]] == ["constant"] and not found["toy"]
    (cell,) = chosen.select(TOPICS, "quick", {"model": "tree", "schedule": "cosine"})["regression"]
    assert "no learning rate" in matrix.skip_reason(TOPICS["regression"], cell)


@pytest.mark.parametrize(
    ("axis", "says"),
    [
        ("model", "unknown model 'lin': choose from line"),
        ("loss", "unknown loss 'lin': choose from hinge"),
        ("schedule", "unknown schedule 'lin'"),
        ("parallel", "unknown parallel 'lin': choose from ddp"),
    ],
)
def test_what_is_on_no_axis_is_refused(axis, says):
    with pytest.raises(UsageError, match=says):
        chosen.select(TOPICS, "quick", {axis: "lin"})
    with pytest.raises(UsageError, match=f"unknown {axis} ''"):
        chosen.select(TOPICS, "quick", {axis: ""})
