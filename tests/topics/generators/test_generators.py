"""What all generators share: learning, sampling, resuming, shapes, collapse, comparing."""

import dataclasses

import pytest
import torch

from harness import checkpoint, cli
from harness.cell import Budget, Cell, UsageError
from harness.results import compare, tables
from harness.results.record import Record
from harness.results.store import Store
from harness.topics.generators import base
from harness.topics.generators.gan import GAN
from harness.topics.generators.pixelcnn import PixelCNNTopic
from harness.topics.generators.style_gan import StyleGAN
from harness.topics.generators.vae import VAE
from harness.topics.options import SHAPES
from harness.training.loop import Diverged, Training
from harness.trial.task import Task, measured

TOPICS = [GAN(), VAE(), PixelCNNTopic(), StyleGAN()]


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_every_generator_learns_samples_and_resumes(topic):
    cell = Cell(topic.name, topic.models[0], *topic.recipe)
    topic = dataclasses.replace(topic, fid_samples=1600)
    budget = Budget(steps=8, batch_size=32)
    whole = Training(topic, cell, budget)
    whole.failure_checks = set()  # eight steps are no time to come alive
    whole.run(4)
    middle = whole.state_dict()
    whole.run(8)
    resumed = Training(topic, cell, budget)
    resumed.failure_checks = set()
    resumed.load_state_dict(middle)
    resumed.run(8)
    images = whole.sample(9)
    assert torch.equal(images, resumed.sample(9))
    channels = 3 if topic.name == "style_gan" else 1
    assert images.dtype == torch.uint8 and images.shape[:2] == (9, channels)


@pytest.mark.parametrize("shape", [(1, 8), (3, 8), (1, 28), (3, 32), (3, 64)])
def test_networks_fit_one_or_three_channels_of_8_to_64_pixels(shape, monkeypatch):
    monkeypatch.setitem(SHAPES, "digits", shape)
    channels, size = shape
    for topic in TOPICS[:3]:
        cell = Cell(topic.name, topic.models[0], *topic.recipe)
        networks = topic.networks(cell)
        if topic.name == "pixelcnn":
            assert networks["model"](torch.zeros(1, channels, size, size)).shape[1:4] == (
                channels,
                size,
                size,
            )
        else:
            assert topic.sample(networks, cell, 2, torch.Generator()).shape == (
                2,
                channels,
                size,
                size,
            )


def test_mode_collapse_is_seen_with_its_step():
    class Collapsed(VAE):
        def sample(self, networks, cell, count, generator):
            return torch.zeros(count, 1, 8, 8, dtype=torch.uint8)

    training = Training(Collapsed(), Cell("vae", "vae", "ce", "constant"), Budget(10, 8))
    with pytest.raises(Diverged, match="mode collapse .* at step 6") as caught:
        training.run(10)
    assert caught.value.step == 6 and len(training.curve()["loss"]) == 6


@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_a_vae_s_latents_are_used_under_each_numeric_loss(loss):
    topic = VAE()
    training = Training(topic, Cell("vae", "vae", loss, "one_cycle"), Budget(250, 32))
    training.failure_checks = set()  # it comes alive in the second half of so short a training
    training.run(250)
    made = base.mean_distance(training.sample(64))
    assert made > 0.3 * base.mean_distance(topic.real()[:64])


@pytest.mark.parametrize("seed", [1, 2])
def test_a_vae_survives_a_schedule_that_begins_at_the_full_rate(seed):
    """With ReLUs it gave one image for all latents; raises Diverged if it does."""
    topic, cell = VAE(), Cell("vae", "vae", "ce", "constant", seed=seed)
    training = Training(topic, cell, topic.budget("quick", "vae"))
    training.run(training.budget.steps)


def test_halving_stops_at_four_pixels():
    assert [base.halvings(size) for size in (8, 16, 28, 32, 64)] == [1, 2, 2, 3, 4]


def test_what_is_no_metric_says_how_it_was_measured(tmp_path):
    topic = VAE(fid_samples=400)
    cell = Cell("vae", "vae", "ce", "constant")
    metrics, how = measured(
        Task(topic, cell, topic.budgets["smoke"], tmp_path), topic.baseline(cell)
    )
    assert set(metrics) == set(topic.directions)
    assert how["extractor"].startswith("digits-net@")
    assert how["real"] == how["generated"] == 400
    assert how["fid_low"] <= metrics["fid"] <= how["fid_high"]
    assert metrics["elbo"] <= 0


@pytest.mark.parametrize("samples", [1600, 65 * 16])
def test_style_gan_evaluates_with_fewer_examples_than_held_out_images(samples):
    topic = StyleGAN(fid_samples=samples)
    found = topic.baseline(Cell("style_gan", "style_gan", *topic.recipe))
    assert found["real"] == samples // 16 < len(topic.images.test_x)
    assert 0 <= found["content_accuracy"] <= 1 and found["fid"] > 0


@pytest.mark.parametrize("digits", [True, False])
def test_style_gan_collapses_where_a_style_has_one_picture(digits, monkeypatch):
    """Plain paper in six colours differs more between styles than grey digits among themselves."""
    topic, cell = StyleGAN(), Cell("style_gan", "style_gan", *StyleGAN.recipe)

    def transfer(networks, content, example):
        pictures = example.roll(-1, 0) if digits else example.amax((0, 2, 3), keepdim=True)
        return (255 * pictures.expand_as(example)).round().to(torch.uint8)

    monkeypatch.setattr(StyleGAN, "transfer", lambda self, *given: transfer(*given))
    found = topic.failure(topic.networks(cell), cell)
    assert found == (None if digits else base.collapsed(0.0))


def test_style_gan_reads_digits_only_where_contents_are_digits():
    topic = StyleGAN(dataset="fashion-mnist")
    assert not topic._has_digits and StyleGAN()._has_digits


def test_inceptions_weights_that_serve_no_so_few_images_are_left_out_and_said(tmp_path):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"")
    topic = VAE(fid_weights=str(weights), fid_samples=700)
    found = topic.baseline(Cell("vae", "vae", *VAE.recipe))
    assert found["extractor"].startswith("digits-net@")
    (note,) = topic.data_notes()
    assert note == "--fid-weights need 2,049 images, 359 are compared: digits-net is used"
    assert VAE(fid_samples=700).data_notes() == []
    assert StyleGAN(fid_weights=str(weights)).data_notes() == []
    with pytest.raises(UsageError, match="no weights at nowhere"):
        VAE(fid_weights="nowhere", fid_samples=700).baseline(Cell("vae", "vae", *VAE.recipe))


def test_style_gan_says_how_many_samples_it_needs():
    topic = StyleGAN(fid_samples=64 * 16)
    message = "fid_samples 1024 is too few for style_gan: .* 64 images .* needs 65"
    with pytest.raises(UsageError, match=message):
        topic.baseline(Cell("style_gan", "style_gan", *topic.recipe))


def test_the_command_line_samples_a_checkpoint_and_names_bad_input(tmp_path, capsys):
    topic = VAE()
    training = Training(topic, Cell("vae", "vae", "ce", "constant"), Budget(2, 8))
    checkpoint.save(tmp_path / "final.pt", training.state_dict())
    out = tmp_path / "grid.png"
    ask = ["sample", str(tmp_path / "final.pt"), "--out"]
    assert cli.main([*ask, str(out), "--count", "9"]) == 0
    width, height = (int.from_bytes(out.read_bytes()[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (8 * 34 + 2, 2 * 34 + 2)
    capsys.readouterr()
    for arguments, message in (
        ([*ask, str(out), "--count", "0"], "count 0 is no number of images"),
        ([*ask, str(tmp_path / "grid.jpg")], "must end in .png"),
        (["sample", str(tmp_path / "no.pt"), "--out", str(out)], "there is no such file"),
    ):
        assert cli.main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_runs_with_other_extractors_or_counts_are_not_compared():
    def frame(**evaluation):
        record = Record(
            Cell("vae", "vae", "ce", "constant"),
            "f",
            "done",
            budget=Budget(2, 8),
            metrics={"fid": 1.0},
            directions={"fid": "min"},
            evaluation={"extractor": "a@1", "real": 9, "generated": 9} | evaluation,
            environment={"device": "cpu", "cpu": "x"},
        )
        return tables.cells([record.to_dict()])

    assert compare.compare(frame(), frame()).verdict == "same"
    for other in ({"extractor": "a@2"}, {"generated": 8}, {"real": 8}):
        with pytest.raises(compare.NotComparable, match=next(iter(other))):
            compare.compare(frame(), frame(**other))


def test_the_command_line_evaluates_a_generator_text_included(tmp_path, capsys):
    """The extractor's name stands beside the numbers."""
    cell = Cell("vae", "vae", "ce", "constant")
    training = Training(VAE(), cell, Budget(2, 8))
    path = Store(tmp_path).checkpoint(cell, "final")
    checkpoint.save(path, training.state_dict())
    arguments = ["evaluate", cell.id, "--profile", "smoke", "--run-dir", str(tmp_path)]
    assert cli.main(arguments) == 0
    told = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert told["extractor"].startswith("digits-net@") and float(told["fid"]) > 0


def test_wgan_gp_is_the_papers():
    """Gulrajani et al. 2017, algorithm 1, and fewer steps than dcgan's, since each costs more."""
    topic = GAN()
    critic, generator = topic.players(Cell("gan", "wgan_gp", *topic.recipe))
    assert (critic.turns, generator.turns) == (5, 1)
    assert critic.optimizer == generator.optimizer
    assert (critic.optimizer.lr, critic.optimizer.betas) == (1e-4, (0.0, 0.9))
    for player in topic.players(Cell("gan", "dcgan", *topic.recipe)):
        assert player.turns == 1
    for profile in topic.budgets:
        assert topic.budget(profile, "wgan_gp").steps < topic.budget(profile, "dcgan").steps
