"""Which cells each profile holds, and why the others are skipped."""

from itertools import product

import pytest
from toy import Toy

from harness import matrix
from harness.axes import losses, parallel, schedules
from harness.cell import Cell, UsageError
from harness.topics.generators.gan import GAN
from harness.topics.generators.pixelcnn import PixelCNNTopic
from harness.topics.generators.style_gan import StyleGAN
from harness.topics.generators.vae import VAE
from harness.topics.regression import Regression
from harness.topics.vgg import VGG

TOPICS = {
    topic.name: topic for topic in (VGG(), Regression(), GAN(), VAE(), PixelCNNTopic(), StyleGAN())
}
AXES = {
    "loss": losses.FAMILIES,
    "schedule": schedules.NAMES,
    "parallel": [name for name in parallel.NAMES if parallel.skip_reason(name, 0) is None],
}


def test_each_topic_meets_every_loss_and_schedule_and_ranks_if_cheap_in_quick():
    covering = matrix.covering(list(TOPICS.values()))
    for name, cells in covering.items():
        assert {cell.model for cell in cells} == set(TOPICS[name].models)
        for axis in ("loss", "schedule"):
            own = {TOPICS[name].base_optimizer(model).kind for model in TOPICS[name].models}
            own |= set() if TOPICS[name].loss_falls else {"plateau"}
            assert {getattr(cell, axis) for cell in cells} >= set(AXES[axis]) - own, (name, axis)
        met = {cell.parallel for cell in cells}
        if TOPICS[name].budgets["quick"].expected_s > matrix.DEAR_S:
            assert met == {"single"}, name
        else:
            assert met >= {"single", "ddp"}, name
    for name in ("vgg", "regression"):
        assert {cell.parallel for cell in covering[name]} == set(AXES["parallel"])


def test_a_dear_topic_alone_meets_all_ranks():
    (cells,) = matrix.covering([StyleGAN()]).values()
    assert {cell.parallel for cell in cells} == set(AXES["parallel"])


def test_each_parallel_configuration_trains_beside_the_cheapest_topic_in_quick():
    covering = matrix.covering(list(TOPICS.values()))
    del covering["regression"]
    assert {cell.parallel for cells in covering.values() for cell in cells} == set(AXES["parallel"])


def test_every_pair_of_values_occurs_in_some_topic_in_quick():
    covered = set()
    for cells in matrix.covering(list(TOPICS.values())).values():
        for cell in cells:
            covered |= matrix.pairs(cell)
    for a, b in (("loss", "schedule"), ("loss", "parallel"), ("schedule", "parallel")):
        for pair in product(AXES[a], AXES[b]):
            assert ((a, pair[0]), (b, pair[1])) in covered


@pytest.mark.parametrize("devices", [1, 2])
def test_beside_gpus_quick_has_what_a_cpu_can_train(devices):
    """Two ranks on one GPU cannot be fsdp, nor can dp be on the CPU."""
    topics = list(TOPICS.values())
    there = matrix.covering(topics, devices, beside=True)
    alone = matrix.covering(topics)
    assert set(map(_plain, there["regression"])) >= set(map(_plain, alone["regression"]))
    for name, cells in there.items():
        for cell in cells:
            gpus = 0 if cell.model in TOPICS[name].on_cpu else devices
            assert matrix.skip_reason(TOPICS[name], cell, gpus) is None, cell.id
    assert ("dp" in {cell.parallel for cell in there["vgg"]}) == (devices > 1)
    assert ("fsdp" in {cell.parallel for cell in there["vgg"]}) == (devices > 1)


def test_a_model_on_the_cpu_takes_what_one_on_a_gpu_cannot():
    class Split(Regression):
        on_cpu = ("linear",)

    (cells,) = matrix.covering([Split()], devices=1, beside=True).values()
    assert {"fsdp", "fsdp_zero2"} <= {cell.parallel for cell in cells}
    assert {cell.model for cell in cells if cell.parallel == "fsdp"} == {"linear"}


def _plain(cell):
    return cell.loss, cell.schedule


def test_every_quick_cell_applies_and_is_there_once():
    for name, cells in matrix.covering(list(TOPICS.values())).items():
        assert len(set(cells)) == len(cells)
        assert all(matrix.skip_reason(TOPICS[name], cell) is None for cell in cells)


def test_the_cheapest_topic_takes_most_cells():
    cells = matrix.covering(list(TOPICS.values()))
    assert len(cells["vgg"]) < 30 < 50 < len(cells["regression"])


def test_full_is_the_whole_product():
    assert len(matrix.full(Toy())) == 2 * 7 * len(schedules.NAMES) * len(parallel.NAMES) * 3


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (("tree", "hinge", "constant", "single"), "no hinge criterion"),
        (("tree", "mse", "cosine", "single"), "no learning rate"),
        (("forest", "mse", "constant", "ddp"), "no gradient"),
        (("mlp", "mse", "cosine", "ddp"), None),
    ],
)
def test_a_skip_says_why(values, reason):
    found = matrix.skip_reason(Regression(), Cell("regression", *values))
    assert (found is None) if reason is None else reason in found


@pytest.mark.parametrize("axis", ["model", "loss", "schedule", "parallel"])
def test_an_unknown_axis_value_is_named(axis):
    values = {"model": "mlp", "loss": "mse", "schedule": "cosine", "parallel": "single"}
    with pytest.raises(UsageError, match=f"unknown {axis} 'nonsense'"):
        matrix.skip_reason(Regression(), Cell("regression", **{**values, axis: "nonsense"}))


def test_an_unknown_profile_or_topic_is_named():
    with pytest.raises(UsageError, match=r"unknown profile 'quik': choose from quick"):
        matrix.select(TOPICS, "quik")
    with pytest.raises(UsageError, match=r"unknown topic 'vg': choose from vgg"):
        matrix.select(TOPICS, "quick", ["vg"])
