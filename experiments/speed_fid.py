"""Time FID, KID and precision/recall end to end against torch-fidelity's own call.

Both take images through digits-net to all measures in one run; torch-fidelity in this process,
uncached. 10,000 images a side with ``--profile full`` (over a minute), else 2,000.
"""

import time

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from harness.topics.datasets import images
from harness.topics.generators import feature_extractor, fid


class Images(Dataset[Tensor]):
    def __init__(self, x_NCHW: Tensor) -> None:
        self.x_NCHW = x_NCHW

    def __len__(self) -> int:
        return len(self.x_NCHW)

    def __getitem__(self, index: int) -> Tensor:
        return self.x_NCHW[index]


def noisy_digits(n: int, seed: int) -> Tensor:
    """Return n different uint8 images (n, 1, 28, 28): digits with noise."""
    generator = torch.Generator().manual_seed(seed)
    digits = images("digits").train_x.float()
    x = digits[torch.randint(len(digits), (n,), generator=generator)]
    x = F.interpolate(x, (28, 28), mode="bilinear")
    return (x + 20 * torch.randn(x.shape, generator=generator)).clamp(0, 255).byte()


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_fid_speed(request, benchmark, tmp_path, one_thread):
    from torch_fidelity import calculate_metrics

    n = 10_000 if request.config.getoption("--profile", "quick") == "full" else 2_000
    real, generated = noisy_digits(n, 1), noisy_digits(n, 2)
    net = feature_extractor.load(feature_extractor.DIGITS)
    net(real[:100])

    def ours() -> dict[str, float]:
        return fid.evaluate(real, generated, net, seed=0, cache=tmp_path)

    start = time.perf_counter()
    first = ours()
    first_s = time.perf_counter() - start
    benchmark.group = "fid"
    second = benchmark.pedantic(ours, rounds=1)
    second_s = benchmark.stats.stats.median
    start = time.perf_counter()
    theirs = calculate_metrics(
        input1=Images(generated),
        input2=Images(real),
        feature_extractor=feature_extractor.DIGITS,
        **dict.fromkeys(("fid", "kid", "prc"), True),
        **{"cuda": False, "save_cpu_ram": True, "cache": False, "verbose": False},
    )
    direct_s = time.perf_counter() - start
    ratios = {"to_torch_fidelity": first_s / direct_s, "uncached_to_cached": first_s / second_s}
    benchmark.extra_info |= {"images": n, **ratios}
    print(f"\n{n} images: torch-fidelity {direct_s:.1f} s, first {first_s:.1f} s,", end=" ")
    print(f"cached {second_s:.1f} s; {ratios}")
    assert first == second
    assert first["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert ratios["to_torch_fidelity"] <= 1.05
    assert ratios["uncached_to_cached"] >= 1.5
