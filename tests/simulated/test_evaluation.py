"""What an evaluation copies back from a simulated GPU does not grow with what it looks at."""

import dataclasses

import pytest
import torch

from harness.cell import Cell
from harness.topics.generators import base, feature_extractor, fid, style_gan, styles

GPU = torch.device("cuda", 0)
GENERATORS = ["gan/dcgan", "vae/vae", "pixelcnn/pixelcnn", "style_gan/style_gan"]


def back(log, phase):
    """Return how often something came back to the host, copied or waited for."""
    counts = log.counts(phase)
    return counts.get("d2h", 0) + counts.get("wait", 0)


def trained(training, topics, name, **fields):
    """Return a topic of other fields, one of its cells, and networks on the GPU."""
    topic = dataclasses.replace(topics[name.partition("/")[0]], **fields)
    cell = Cell(*name.split("/"), *topic.recipe)
    return topic, cell, training(cell).networks


def net(device):
    return feature_extractor.load(feature_extractor.DIGITS, device=device)


@pytest.mark.parametrize("name", GENERATORS)
def test_more_images_bring_back_no_more_often(name, training, topics, log, tmp_path, monkeypatch):
    for module in (base, style_gan):
        monkeypatch.setattr(module, "cache_folder", lambda name: None)
    few, many = (70, 520) if name != "style_gan/style_gan" else (16 * 70, 16 * 140)
    for count in (few, many):
        topic, cell, networks = trained(training, topics, name, fid_samples=count)
        with log.phase(f"{count}"), torch.no_grad():
            assert topic.evaluate(networks, cell)
    assert back(log, f"{few}") == back(log, f"{many}") > 0


@pytest.mark.parametrize("name", ["vae/vae", "pixelcnn/pixelcnn"])
def test_a_likelihood_comes_back_once_for_all_batches(name, training, topics, log):
    topic, cell, networks = trained(training, topics, name)
    for count in (40, 359):
        with log.phase(f"{count}"):
            topic.likelihood(networks, cell, topic.images.test_x[:count])
    assert back(log, "40") == back(log, "359") <= 2


@pytest.mark.parametrize("name", ["multitask/equal", "vgg/vgg11", "regression/mlp"])
def test_predictions_come_back_together(name, training, topics, log, monkeypatch):
    topic, cell, networks = trained(training, topics, name)
    with log.phase("evaluation"), torch.no_grad():
        topic.validate(networks, cell)
    assert back(log, "evaluation") == (3 if cell.topic == "multitask" else 1)


def test_distances_are_the_cpu_s(log):
    images = torch.randint(256, (2, 300, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    real, made = images.to(torch.uint8)
    expected = fid.evaluate(real, made, net("cpu"), seed=0)
    got = fid.evaluate(real, made.to(GPU), net(GPU), seed=0)
    assert got == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_cached_statistics_come_back_to_the_gpu_and_are_its_own(log, tmp_path):
    images = torch.randint(256, (70, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    first = fid.reference(images, styles.extractor(GPU), tmp_path)
    again = fid.reference(images, styles.extractor(GPU), tmp_path)
    for one, other in zip(first, again, strict=True):
        assert one.device == other.device == GPU and torch.equal(one, other)
    fid.reference(images, styles.extractor("cpu"), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
