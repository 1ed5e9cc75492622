"""FID, KID, precision and recall against SciPy's, torch-fidelity's and laws; their cache."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.nn import functional as F

from harness.cell import UsageError
from harness.topics.datasets import images
from harness.topics.generators import feature_extractor, fid

DIGITS = images("digits").train_x
REAL, OTHER = DIGITS[:700], DIGITS[700:1400]
BINOMIAL = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16
BLURRED = F.conv2d(OTHER.float(), BINOMIAL, padding=1).round().byte()
NOISE = torch.randint(
    0, 256, OTHER.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
GENERATED = {"other": OTHER, "blurred": BLURRED, "noise": NOISE}


@pytest.fixture(scope="module")
def net():
    return feature_extractor.load(feature_extractor.DIGITS)


def gaussian(n, f, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(scale * rng.normal(size=(n, f)) @ rng.normal(size=(f, f)) + seed / 9)


def scipy_frechet(x, y):
    x, y = x.numpy(), y.numpy()
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    gap = x.mean(0) - y.mean(0)
    return gap @ gap + np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b).real)


# What is measured, against other computations


@pytest.mark.parametrize("name", GENERATED)
def test_fid_equals_scipys_on_digits(net, name):
    x, y = fid.features(REAL, net), fid.features(GENERATED[name], net)
    ours = fid.frechet(fid.statistics(x), fid.statistics(y))
    assert ours == pytest.approx(scipy_frechet(x, y), rel=1e-6)


@pytest.mark.parametrize("f, n", [(2, 5), (5, 40), (16, 200)])
def test_fid_equals_scipys_on_gaussians(f, n):
    x, y = gaussian(n, f, 1), gaussian(2 * n, f, 2, 3.0)
    ours = fid.frechet(fid.statistics(x), fid.statistics(y))
    assert ours == pytest.approx(scipy_frechet(x, y), rel=1e-6)


def test_fid_of_uncorrelated_features_by_hand():
    x = torch.tensor([[-1.0, -1], [1, -1], [-1, 1], [1, 1]], dtype=torch.float64)
    y = x * torch.tensor([3.0, 5]) + torch.tensor([1.0, 2])  # deviations 3 and 5 times as large
    expected = 1**2 + 2**2 + 4 / 3 * ((3 - 1) ** 2 + (5 - 1) ** 2)
    assert fid.frechet(fid.statistics(x), fid.statistics(y)) == pytest.approx(expected)


@pytest.mark.parametrize("n, m", [(30, 30), (130, 250)])  # within a block of pairs, and over it
def test_kid_is_the_unbiased_mmd(n, m):
    x, y = gaussian(n, 5, 1).numpy(), gaussian(m, 5, 2).numpy()

    def kernel(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / 5 + 1) ** 3

    def within(z):
        pairs = [(i, j) for i in range(len(z)) for j in range(len(z)) if i != j]
        return np.mean([kernel(z[i], z[j]) for i, j in pairs])

    expected = within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])
    ours = fid.compare(*(fid.statistics(torch.from_numpy(z)) for z in (x, y)))
    assert ours["kid"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n, m, scale", [(30, 30, 1.0), (130, 250, 0.5), (250, 130, 1.5)])
def test_precision_and_recall_follow_kynkaanniemi(n, m, scale):
    x, y = gaussian(n, 4, 1), gaussian(m, 4, 2, scale)

    def inside(points, centres):  # the share of points in some centre's ball
        def distance(a, b):
            return np.linalg.norm(a - b)

        radii = [sorted(distance(c, d) for d in centres)[3] for c in centres]
        hits = [
            any(distance(p, c) <= r for c, r in zip(centres, radii, strict=True)) for p in points
        ]
        return np.mean(hits)

    ours = fid.compare(fid.statistics(x), fid.statistics(y))
    assert ours["precision"] == pytest.approx(inside(y.numpy(), x.numpy()))
    assert ours["recall"] == pytest.approx(inside(x.numpy(), y.numpy()))
    assert 0 < ours["precision"] < 1 and 0 < ours["recall"] < 1


def test_all_equal_torch_fidelitys_own(net):
    from torch_fidelity import calculate_metrics

    class Images(torch.utils.data.Dataset):
        def __init__(self, x):
            self.x = x

        def __len__(self):
            return len(self.x)

        def __getitem__(self, index):
            return self.x[index]

    feature_extractor.register()
    theirs = calculate_metrics(
        input1=Images(BLURRED),
        input2=Images(REAL),
        feature_extractor=feature_extractor.DIGITS,
        **dict.fromkeys(("fid", "kid", "prc"), True),
        **{"kid_subsets": 1, "kid_subset_size": len(REAL)},
        **{"cuda": False, "save_cpu_ram": True, "cache": False, "verbose": False},
    )
    ours = fid.evaluate(REAL, BLURRED, net, seed=0)
    assert ours["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert ours["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    assert ours["precision"] == pytest.approx(theirs["precision"])
    assert ours["recall"] == pytest.approx(theirs["recall"])


def test_worse_images_score_worse(net):
    other, blurred, noise = (fid.evaluate(REAL, x, net, seed=0) for x in GENERATED.values())
    for name in ("fid", "kid"):
        assert 10 * abs(other[name]) < blurred[name] < noise[name] / 1.5
    assert other["fid_high"] < blurred["fid_low"] and blurred["fid_high"] < noise["fid_low"]
    assert other["precision"] > 0.7 > blurred["precision"] >= noise["precision"]
    assert other["recall"] > 0.7 > blurred["recall"] >= noise["recall"]


def test_a_collapsed_generator_gets_finite_numbers(net):
    found = fid.evaluate(REAL, REAL[:1].expand(700, -1, -1, -1), net, seed=0)
    assert all(np.isfinite(value) for value in found.values())
    assert found["recall"] < 0.05 and found["fid"] > 10


def test_the_same_images_have_no_distance(net):
    found = fid.evaluate(REAL, REAL.flip(0), net, seed=0)
    assert found["fid"] == pytest.approx(0, abs=1e-6)
    assert (found["precision"], found["recall"]) == (1, 1)


def test_the_interval_is_the_seeds_and_holds_the_estimate(net):
    sides = [fid.statistics(fid.features(x, net)) for x in (REAL, BLURRED)]
    low, high = fid.interval(*sides, seed=3)
    assert (low, high) == fid.interval(*sides, seed=3) != fid.interval(*sides, seed=4)
    value = fid.frechet(*sides)
    assert 0.8 * value < low < value < high < 1.2 * value


def test_the_interval_covers_other_draws():
    real = fid.statistics(gaussian(200, 6, 1))
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(6, 6))
    draws = [fid.statistics(torch.from_numpy(rng.normal(size=(200, 6)) @ mix)) for _ in range(60)]
    expected = np.mean([fid.frechet(real, draw) for draw in draws])
    hits = [np.clip(expected, *fid.interval(real, draw, 0)) == expected for draw in draws]
    assert np.mean(hits) > 0.85


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e200])
def test_features_that_are_not_finite_have_no_fid(net, value):
    lost = dataclasses.replace(
        net, network=lambda x: (torch.full((len(x), 64), value, dtype=torch.float64),)
    )
    found = fid.evaluate(REAL, OTHER, lost, seed=0)
    for name in ("fid", "fid_low", "fid_high", "fid_se"):
        assert np.isnan(found[name])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [float("nan"), 1e200])
def test_a_distance_that_is_not_finite_is_nan_and_not_0(value):
    side = fid.statistics(gaussian(40, 5, 1))
    far = side._replace(mean_F=torch.full_like(side.mean_F, value))
    assert np.isnan(fid.frechet(side, far))
    assert np.isnan(fid.interval(far, side, 0)).all()


def test_what_makes_numbers_comparable_is_described(net):
    assert fid.describe(REAL, NOISE[:100], net) == {
        "extractor": f"digits-net@{feature_extractor.WEIGHTS_SHA256[:12]}",
        "real": 700,
        "generated": 100,
    }


# Bad input


@pytest.mark.parametrize("real, generated", [(64, 65), (65, 64), (65, 0)])
def test_a_singular_covariance_is_refused(net, real, generated):
    with pytest.raises(UsageError, match=f"{min(real, generated)} images are too few for FID.* 65"):
        fid.evaluate(REAL[:real], OTHER[:generated], net, seed=0)
    fid.evaluate(REAL[:65], OTHER[:65], net, seed=0)


@pytest.mark.parametrize("x", [REAL.float(), REAL[:, 0], REAL.expand(-1, 2, -1, -1)])
def test_what_are_no_images_is_refused(net, x):
    with pytest.raises(UsageError, match="no images: uint8"):
        fid.features(x, net)


# The cache


@pytest.fixture
def counting(net):
    class Counting(torch.nn.Module):
        images = 0

        def forward(self, x):
            self.images += len(x)
            return net.network(x)

    return dataclasses.replace(net, network=Counting())


def test_the_references_features_are_taken_once(counting, tmp_path):
    first = fid.evaluate(REAL, OTHER, counting, 0, tmp_path)
    assert counting.network.images == 1400
    assert fid.evaluate(REAL.clone(), OTHER, counting, 0, tmp_path) == first
    assert counting.network.images == 2100
    assert fid.evaluate(REAL, OTHER, counting, 0) == first


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other"])
def test_a_damaged_cache_file_is_computed_again(counting, tmp_path, damage):
    first = fid.reference(REAL, counting, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    damaged = {"empty": b"", "cut": whole[:-100], "flipped": flipped, "other": b"<html>" * 20}
    path.write_bytes(damaged[damage])
    again = fid.reference(REAL, counting, tmp_path)
    assert counting.network.images == 1400 and path.read_bytes() == whole
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_other_images_or_weights_have_other_cache_files(counting, tmp_path):
    changed = REAL.clone()
    changed[5, 0, 3, 3] ^= 1
    for x in (REAL, changed, REAL.reshape(700, 1, 4, 16)):
        fid.reference(x, counting, tmp_path)
    fid.reference(REAL, dataclasses.replace(counting, sha256="0" * 64), tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_cache_that_cannot_be_written_is_done_without(net, tmp_path):
    (tmp_path / "file").touch()
    fid.reference(REAL, net, tmp_path / "file")


# Extractors


def test_torch_fidelity_is_imported_late():
    code = "import sys, harness.topics.generators.fid; sys.exit('torch_fidelity' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
