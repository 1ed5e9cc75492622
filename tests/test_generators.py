"""The generators' parts: pixel densities, masks, cached sampling, games, styles."""

import dataclasses
import math

import pytest
import torch
from scipy import stats

from harness import checkpoint, cli
from harness.axes import losses
from harness.axes.losses import adversarial, pixels
from harness.cell import Budget, Cell, UsageError
from harness.results import compare, tables
from harness.results.record import Record
from harness.topics import datasets
from harness.topics.generators import base, styles
from harness.topics.generators.gan import GAN
from harness.topics.generators.pixelcnn import PixelCNN, PixelCNNTopic
from harness.topics.generators.style_gan import StyleGAN
from harness.topics.generators.vae import VAE
from harness.topics.options import SHAPES
from harness.training.loop import Diverged, Training
from harness.trial.task import measured

TOPICS = [GAN(), VAE(), PixelCNNTopic(), StyleGAN()]


@pytest.mark.parametrize("family", losses.FAMILIES)
@pytest.mark.parametrize("levels", [17, 256])
def test_every_family_is_a_density_over_the_levels(family, levels):
    form = pixels.form(family, levels)
    outputs = torch.randn(5, form.width, dtype=torch.float64)
    mass = form.log_mass(outputs).exp()
    assert mass.shape == (5, levels)
    torch.testing.assert_close(mass.sum(-1), torch.ones(5, dtype=torch.float64))
    level = torch.randint(levels, (5,))
    expected = -mass[torch.arange(5), level].log()
    torch.testing.assert_close(form.nll(outputs, level), expected)


@pytest.mark.parametrize(("family", "density"), [("mse", stats.norm), ("mae", stats.laplace)])
def test_the_implied_densities_are_scipys_on_the_levels(family, density):
    form = pixels.form(family, 17)
    location, log_scale = 0.2, -1.5
    scale = math.exp(log_scale)
    width = math.sqrt(scale / 2) if family == "mse" else scale
    value = torch.linspace(-1, 1, 17, dtype=torch.float64)
    expected = torch.from_numpy(density.pdf(value.numpy(), location, width))
    mass = form.log_mass(torch.tensor([location, log_scale], dtype=torch.float64)).exp()
    torch.testing.assert_close(mass, expected / expected.sum())


def test_drawing_follows_the_masses():
    form = pixels.form("ce", 4)
    outputs = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    uniform = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64)
    drawn = form.draw(outputs.expand(1000, 4), uniform)
    assert drawn.bincount().tolist() == [100, 200, 300, 400]


def test_levels_and_images_come_back():
    x = datasets.images("digits").train_x[:50]
    assert torch.equal(pixels.to_images(pixels.to_levels(x, 17), 17), x)


def test_reference_models_in_bits():
    uniform = torch.arange(17).repeat(100)[:, None, None, None]
    assert pixels.histogram_bits(uniform, uniform, 17) == pytest.approx(math.log2(17), rel=1e-3)
    train = torch.full((10, 1, 1, 1), 8)
    mass = stats.norm.cdf(1.0) - stats.norm.cdf(-1.0)  # half a level is one deviation
    assert pixels.gaussian_bits(train, train[:1], 17) == pytest.approx(-math.log2(mass))


@pytest.mark.parametrize("channels", [1, 3])
def test_no_output_depends_on_its_own_or_a_later_pixel(channels):
    torch.manual_seed(0)
    network = PixelCNN(channels, 2, 8, 3).double()
    x = torch.randn(1, channels, 5, 6, dtype=torch.float64, requires_grad=True)
    outputs = network(x)
    sees_the_first = 0
    for c in range(channels):
        for i in range(5):
            for j in range(6):
                (gradient,) = torch.autograd.grad(outputs[0, c, i, j].sum(), x, retain_graph=True)
                order = gradient[0].permute(1, 2, 0).flatten()  # pixel by pixel, then channels
                place = (i * 6 + j) * channels + c
                assert not order[place:].any()
                sees_the_first += bool(order[0])
    assert sees_the_first > 10


@pytest.mark.parametrize("channels", [1, 3])
def test_cached_sampling_equals_sampling_from_scratch(channels):
    torch.manual_seed(0)
    network, form = PixelCNN(channels, 17, 8, 3).double(), pixels.form("ce", 17)
    uniform = torch.rand(3, channels, 6, 5, dtype=torch.float64)
    cached = network.sample(form, uniform, 17)
    scratch = torch.zeros_like(cached)
    with torch.no_grad():
        for i in range(6):
            for j in range(5):
                for c in range(channels):
                    outputs = network(2 * scratch.double() / 16 - 1)[:, c, i, j]
                    scratch[:, c, i, j] = form.draw(outputs, uniform[:, c, i, j])
    assert torch.equal(cached, scratch)


def test_games_are_the_papers():
    real, fake = torch.tensor([0.3, -1.2]), torch.tensor([0.8, -0.4])
    p, q = real.sigmoid(), fake.sigmoid()
    goodfellow = -(p.log().mean() + (1 - q).log().mean())
    for family in ("ce", "log_loss"):
        torch.testing.assert_close(
            adversarial.adversarial_loss(family).discriminator(real, fake), goodfellow
        )
    torch.testing.assert_close(
        adversarial.adversarial_loss("ce").generator(fake), (1 - q).log().mean()
    )
    torch.testing.assert_close(
        adversarial.adversarial_loss("log_loss").generator(fake), -q.log().mean()
    )
    lsgan = (real - 1).square().mean() + fake.square().mean()
    torch.testing.assert_close(adversarial.adversarial_loss("mse").discriminator(real, fake), lsgan)
    with pytest.raises(UsageError, match="unknown loss 'l1'"):
        adversarial.adversarial_loss("l1")


def test_f_gans_kl_bounds_the_divergence():
    """The best score, 1 + log p/q, makes the discriminator's value the KL (Nowozin et al. 2016)."""
    p, q = torch.tensor([0.7, 0.3]), torch.tensor([0.4, 0.6])
    best = 1 + (p / q).log()
    value = (p * best).sum() - (q * (best - 1).exp()).sum()
    torch.testing.assert_close(value, (p * (p / q).log()).sum())
    loss = adversarial.adversarial_loss("kl").discriminator(
        best.repeat_interleave(2), best.repeat_interleave(2)
    )
    torch.testing.assert_close(loss, (best - 1).exp().mean() - best.mean())


@pytest.mark.parametrize("style", styles.STYLES, ids=lambda style: style.name)
def test_a_style_paints_paper_and_ink(style):
    blank = styles.render(torch.zeros(1, 1, 8, 8), style)
    torch.testing.assert_close(blank, torch.tensor(style.paper).view(1, 3, 1, 1).expand(1, 3, 8, 8))
    full = styles.render(torch.ones(1, 1, 8, 8), style)
    torch.testing.assert_close(full[0, :, 0, 0], torch.tensor(style.ink))


def test_styles_net_reads_held_out_digits_in_every_style():
    split = datasets.images("digits")
    content = StyleGAN()._content(split.test_x)
    for number, style in enumerate(styles.STYLES):
        image = (styles.render(content, style) * 255).round().to(torch.uint8)
        judge = styles.network()
        assert (judge.classify(image).argmax(1) == split.test_y).double().mean() > 0.98
        assert (judge.classify_style(image).argmax(1) == number).double().mean() > 0.98


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


def test_halving_stops_at_four_pixels():
    assert [base.halvings(size) for size in (8, 16, 28, 32, 64)] == [1, 2, 2, 3, 4]


def test_what_is_no_metric_says_how_it_was_measured():
    topic = VAE(fid_samples=400)
    cell = Cell("vae", "vae", "ce", "constant")
    metrics, how = measured(type("T", (), {"topic": topic})(), topic.baseline(cell))
    assert set(metrics) == set(topic.directions)
    assert how["extractor"].startswith("digits-net@")
    assert how["real"] == how["generated"] == 400
    assert how["fid_low"] <= metrics["fid"] <= how["fid_high"]
    assert metrics["elbo"] <= 0


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
