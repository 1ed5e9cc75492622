"""Compute FID, KID, precision and recall of generated images against real ones.

FID (Heusel et al. 2017) is torch-fidelity's, in float64. KID (Binkowski et al. 2018) is the
unbiased MMD with the kernel (x.y / F + 1)^3 over all pairs, where torch-fidelity averages over
random subsets of 1,000. Precision and recall follow Kynkaanniemi et al. 2019 with 3 neighbours.
KID and precision/recall share one pass over the pairs, and what depends on the real images alone
is cached. All four depend on the extractor and on the counts of images: compare only equal ones.

All is computed where the extractor is; on a GPU what comes back does not grow with the images.

Shapes: N images (R real, G generated), C channels, H height, W width, F features.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.cell import UsageError
from harness.files import write_atomically
from harness.fingerprint import fingerprint
from harness.topics.generators.feature_extractor import Extractor

NEIGHBOURS = 3
CACHE_FORMAT = 2
BATCH = 128
ROWS = 100  # of a block of pairs, so that it stays in the cache: 8 MB at 10,000 images
SMALL = 256  # features whose matrices are quick to decompose


class Statistics(NamedTuple):
    """Statistics of one set of images, from which FID, KID, precision and recall are computed.

    mean_F and covariance_FF; reach_N, the squared distance to the third nearest neighbour in the
    same set; kernel, the mean KID kernel over pairs of different images. All float64.
    """

    features_NF: Tensor
    mean_F: Tensor
    covariance_FF: Tensor
    reach_N: Tensor
    kernel: Tensor


def features(x_NCHW: Tensor, extractor: Extractor) -> Tensor:
    """Extract the features (N, F) of uint8 images (N, C, H, W), as float64 where the extractor is.

    Raises UsageError for anything but such images, and for no more of them than features.
    """
    if x_NCHW.dtype != torch.uint8 or x_NCHW.ndim != 4 or x_NCHW.shape[1] not in (1, 3):
        raise UsageError(
            f"{x_NCHW.dtype} of shape {tuple(x_NCHW.shape)} are no images: "
            "uint8 (N, C, H, W) with 1 or 3 channels are needed"
        )
    if len(x_NCHW) <= extractor.size:
        raise UsageError(
            f"{len(x_NCHW)} images are too few for FID: the covariance of {extractor.name}'s "
            f"{extractor.size} features is singular below {extractor.size + 1}"
        )
    return torch.cat([extractor(batch) for batch in x_NCHW.to(extractor.device).split(BATCH)])


def statistics(features_NF: Tensor) -> Statistics:
    """Compute the statistics of one set of images from its features (N, F), where N > F."""
    n = len(features_NF)
    total = -_kernel(features_NF.square().sum(1), features_NF.shape[1]).sum()  # not with oneself
    reach = []
    for _, distance, kernel in _pairs(features_NF, features_NF):
        total += kernel.sum()
        reach.append(distance.topk(NEIGHBOURS + 1, largest=False).values[:, -1])
    return Statistics(
        features_NF,
        *_moments(features_NF),
        torch.cat(reach),
        total / (n * (n - 1)),
    )


def _moments(features_NF: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features' mean and covariance: torch-fidelity's, or on a GPU torch's there."""
    if features_NF.device.type != "cpu":
        return features_NF.mean(0), features_NF.T.cov()
    from torch_fidelity.metric_fid import fid_features_to_statistics

    moments = fid_features_to_statistics(features_NF)
    return torch.from_numpy(moments["mu"]), torch.from_numpy(moments["sigma"])


def _kernel(product: Tensor, size: int) -> Tensor:
    """Return KID's kernel (x.y / F + 1)^3 from products x.y; size: F."""
    base = product / size + 1
    return base * base * base


def _pairs(x_NF: Tensor, y_MF: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield blocks of x's rows: their slice, squared distances to every y, and KID kernels."""
    norm_N, norm_M = x_NF.square().sum(1), y_MF.square().sum(1)
    for start in range(0, len(x_NF), ROWS):
        rows = slice(start, start + ROWS)
        product = x_NF[rows] @ y_MF.T
        kernel = _kernel(product, x_NF.shape[1])
        yield rows, product.mul_(-2).add_(norm_M).add_(norm_N[rows, None]), kernel


def frechet(real: Statistics, generated: Statistics) -> float:
    """Compute FID, the Frechet distance of two Gaussians, in squared feature units.

    NaN if it is not finite, as where features are not.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    sides = (
        {"mu": side.mean_F.cpu().numpy(), "sigma": side.covariance_FF.cpu().numpy()}
        for side in (real, generated)
    )
    try:
        found = float(fid_statistics_to_metric(*sides, verbose=False)[KEY_METRIC_FID])
    except np.linalg.LinAlgError:  # of covariances that are not finite
        return math.nan
    return _not_negative(found)


def _not_negative(distance: float) -> float:
    """Return a distance that rounding may have taken below 0; NaN if it is not finite."""
    return max(0.0, distance) if math.isfinite(distance) else math.nan


def compare(real: Statistics, generated: Statistics) -> dict[str, float]:
    """Compute KID, precision and recall of generated images against real ones.

    precision: the share of generated images within reach (``Statistics.reach_N``) of a real one;
    recall: the share of real images within reach of a generated one.
    """
    total = torch.zeros_like(real.kernel)
    near_real = []
    near_generated_R = torch.zeros_like(real.reach_N, dtype=torch.bool)
    for rows, distance, kernel in _pairs(generated.features_NF, real.features_NF):
        total += kernel.sum()
        near_real.append((distance <= real.reach_N).any(1))
        near_generated_R |= (distance <= generated.reach_N[rows, None]).any(0)
    across = total / (len(real.features_NF) * len(generated.features_NF))
    found = {
        "kid": real.kernel + generated.kernel - 2 * across,
        "precision": torch.cat(near_real).double().mean(),
        "recall": near_generated_R.double().mean(),
    }
    return dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True))


def interval(real: Statistics, generated: Statistics, seed: int) -> tuple[float, float]:
    """Return a 95 % bootstrap interval of the FID over draws of as many generated images.

    FID -+ 1.96 standard deviations over 100 resamples of the generated images (20 where F > 256)
    against these real ones, never below 0; NaN where the FID is. It is not taken from the
    resamples' quantiles since a resample's FID is too high: it has fewer different images.
    """
    fid = frechet(real, generated)
    if math.isnan(fid):
        return math.nan, math.nan
    g, device = len(generated.features_NF), generated.features_NF.device
    small = len(real.mean_F) <= SMALL
    values, vectors = torch.linalg.eigh(real.covariance_FF)
    root_FF = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    generator = torch.Generator().manual_seed(seed)
    picks = [torch.randint(g, (g,), generator=generator) for _ in range(100 if small else 20)]
    weight_RG = torch.stack([pick.bincount(minlength=g).double() / g for pick in picks]).to(device)
    fids = []
    for weights in weight_RG.split(len(picks) if small else 1):
        distances, traces, products = [], [], []
        for weight_G in weights:
            mean_F = weight_G @ generated.features_NF
            centred_GF = (generated.features_NF - mean_F) * weight_G.sqrt()[:, None]
            covariance_FF = centred_GF.T @ centred_GF * (g / (g - 1))
            distances.append((real.mean_F - mean_F).square().sum())
            traces.append(values.sum() + covariance_FF.trace())
            # the trace of (S1 S2)^1/2 is that of (S1^1/2 S2 S1^1/2)^1/2, which is symmetric
            products.append(root_FF @ covariance_FF @ root_FF)
        product_RFF = torch.stack(products)
        if small:  # a GPU decomposes one after the other, small ones slower than the CPU
            product_RFF = product_RFF.cpu()
        rooted_R = torch.linalg.eigvalsh(product_RFF).clamp(min=0).sqrt().sum(1).to(device)
        fids.append(torch.stack(distances) + (torch.stack(traces) - 2 * rooted_R))
    half = 1.96 * torch.cat(fids).std().item()
    return _not_negative(fid - half), fid + half


def reference(x_NCHW: Tensor, extractor: Extractor, cache: Path | None) -> Statistics:
    """Return the statistics of real images, read from the folder ``cache`` if they are there.

    The key is a hash of the images and of the extractor's weights, and the kind of its device,
    whose rounding is its own. None: nothing is cached.
    """
    if cache is None:
        return statistics(features(x_NCHW, extractor))
    images = hashlib.sha256(x_NCHW.cpu().contiguous().numpy().data).hexdigest()
    key = fingerprint(
        format=CACHE_FORMAT,
        images=images,
        shape=list(x_NCHW.shape),
        extractor=[extractor.name, extractor.sha256, extractor.device.type],
        torch=torch.__version__,
    )
    path = cache / f"{extractor.name}-{key}"
    found = _read(path)
    if found is None:
        found = statistics(features(x_NCHW, extractor))
        buffer = io.BytesIO()
        torch.save(tuple(part.cpu() for part in found), buffer)
        data = buffer.getvalue()
        with contextlib.suppress(OSError):  # full or read-only: the next one computes it again
            write_atomically(path, hashlib.sha256(data).digest() + data)
    return Statistics(*(part.to(extractor.device) for part in found))


def _read(path: Path) -> Statistics | None:
    """Read cached statistics; None if the file is missing or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    seal, body = data[:32], memoryview(data)[32:]
    if hashlib.sha256(body).digest() != seal:
        return None
    return Statistics(*torch.load(io.BytesIO(body), weights_only=True))


def evaluate(
    real: Tensor,
    generated: Tensor,
    extractor: Extractor,
    seed: int | None,
    cache: Path | None = None,
) -> dict[str, float]:
    """Compute fid, fid_low, fid_high, kid, precision and recall of uint8 images (N, C, H, W).

    fid_se: the standard error that fid_low and fid_high stem from. ``seed`` is the bootstrap's,
    None to leave the interval out; ``cache`` the folder for the real images' statistics, see
    ``files.cache_folder``. Raises UsageError for no more images than features on either side.
    """
    sides = reference(real, extractor, cache), statistics(features(generated, extractor))
    found, spread = frechet(*sides), {}
    if seed is not None:
        low, high = interval(*sides, seed)
        spread = {"fid_low": low, "fid_high": high, "fid_se": (high - found) / 1.96}
    return {"fid": found, **spread, **compare(*sides)}


def describe(real: Tensor, generated: Tensor, extractor: Extractor) -> dict[str, str | int]:
    """Return the extractor and image counts, which must agree for two FIDs to be comparable."""
    return {"extractor": extractor.id, "real": len(real), "generated": len(generated)}
