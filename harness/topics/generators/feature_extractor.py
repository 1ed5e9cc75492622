"""Feature extractors for FID: digits-net, shipped here, or torch-fidelity's InceptionV3.

digits-net is a small convolutional classifier of scikit-learn's digits, trained once by
``experiments/train_extractor.py``; its features are the 64 inputs of the last layer's ReLU, scaled
to a mean square of 1 on its training digits. It sees grey only: images that differ in hue alone
look the same to it.
InceptionV3 is torch-fidelity's port of the 2015 TensorFlow graph, the published FID's extractor;
its weights are read from a file and never downloaded here.

Shapes: N images, C channels (1 or 3), H height, W width, F features.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.cell import UsageError, unknown

DIGITS = "digits-net"
INCEPTION = "inception-v3-compat"
INCEPTION_FEATURES = 2048
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = (
    f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
)

WEIGHTS = Path(__file__).parent / "weights" / "digits-net.pt"
WEIGHTS_SHA256 = "8b7aa1c3ade281b12455d11bc696909e8657c6ad6cf8c06d0c7b5442c0851331"
SIZE = 32
FEATURES = 64


class DigitsNet(nn.Module):
    """A small classifier of digits: three convolutions and a linear layer, 122,154 parameters."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * (SIZE // 8) ** 2, FEATURES))
        self.head = nn.Linear(FEATURES, 10)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return features (N, 64) of uint8 images (N, C, H, W)."""
        features: Tensor = self.body(prepare(x_NCHW))
        return features

    def classify(self, x_NCHW: Tensor) -> Tensor:
        """Return logits (N, 10) of uint8 images (N, C, H, W)."""
        logits: Tensor = self.head(self(x_NCHW).relu())
        return logits


def prepare(x_NCHW: Tensor) -> Tensor:
    """Turn uint8 images into digits-net's input: grey, (N, 1, 32, 32), in 0..1.

    Grey is the mean over channels; resizing is bilinear, with antialiasing where the image shrinks.
    """
    grey = x_NCHW.float().mean(1, keepdim=True) / 255
    if grey.shape[-2:] == (SIZE, SIZE):
        return grey
    return F.interpolate(grey, (SIZE, SIZE), mode="bilinear", antialias=True)


def digits_net(path: Path = WEIGHTS, sha256: str = WEIGHTS_SHA256) -> DigitsNet:
    """Load the trained digits-net. Raises UsageError for a file that is not the one shipped."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{DIGITS} weights {path} cannot be read: {error.strerror}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise UsageError(
            f"{DIGITS} weights {path} are not the ones shipped: "
            f"SHA-256 {found[:12]}, {sha256[:12]} expected; reinstall torch-decathlon"
        )
    state = torch.load(io.BytesIO(data), weights_only=True)
    with torch.random.fork_rng(devices=[]):  # initial values must not move the caller's generator
        network = DigitsNet()
    network.load_state_dict(state)  # stored as float16
    # pooling and small convolutions take half the time channels last
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class Extractor:
    """A torch-fidelity feature extractor, ready to use.

    name as torch-fidelity knows it; sha256 over its weights' file; size: F; channels: what it
    takes (None: 1 or 3).
    """

    name: str
    sha256: str
    size: int
    channels: int | None
    device: torch.device
    network: Any  # torch_fidelity's FeatureExtractorBase

    @property
    def id(self) -> str:
        """Return the name with the first 12 digits of the weights' SHA-256."""
        return f"{self.name}@{self.sha256[:12]}"

    @torch.no_grad()
    def __call__(self, x_NCHW: Tensor) -> Tensor:
        """Return features (N, F), float64, of one batch of uint8 images (N, C, H, W)."""
        if self.channels == 3 and x_NCHW.shape[1] == 1:
            x_NCHW = x_NCHW.expand(-1, 3, -1, -1)
        features: Tensor = self.network(x_NCHW.to(self.device))[0]
        return features.double()


def load(
    name: str | None = None,
    weights: str | Path | None = None,
    samples: int | None = None,
    device: torch.device | str = "cpu",
) -> Extractor:
    """Load a feature extractor by its name or by a file of InceptionV3's weights.

    Without a name: InceptionV3 if its weights are given, or torch-fidelity has once downloaded
    them, and ``samples`` (images on the smaller side; None: enough) are more than its 2,048
    features, else digits-net. Raises UsageError for an unknown name, and for weights that are not
    there or are not right.
    """
    if name not in (None, DIGITS, INCEPTION):
        raise unknown("extractor", str(name), (DIGITS, INCEPTION))
    if name == DIGITS and weights is not None:
        raise UsageError(f"--fid-weights is for {INCEPTION}: {DIGITS} has its own")
    path = Path(weights or Path(torch.hub.get_dir(), "checkpoints", INCEPTION_FILE))
    if name is None:
        enough = samples is None or samples > INCEPTION_FEATURES
        name = INCEPTION if enough and (weights is not None or path.exists()) else DIGITS
    if (name == INCEPTION or weights is not None) and not path.is_file():
        raise UsageError(
            f"{INCEPTION} has no weights at {path}: download {INCEPTION_URL} and give it "
            f"by --fid-weights FILE, or use {DIGITS}"
        )
    return _load(name, path if name == INCEPTION else WEIGHTS, torch.device(device))


@cache
def _load(name: str, path: Path, device: torch.device) -> Extractor:
    """Load an extractor from its file of weights, once a process for each name and device."""
    from torch_fidelity.utils import create_feature_extractor

    register()
    sha256 = WEIGHTS_SHA256
    if name == INCEPTION:
        try:
            torch.load(path, map_location="cpu", weights_only=True)  # torch-fidelity would run code
            with open(path, "rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except Exception as error:  # a bad file raises over six types
            raise UsageError(f"{path} holds no weights: {_first_line(error)}") from None
    size = FEATURES if name == DIGITS else INCEPTION_FEATURES
    try:
        with torch.random.fork_rng(devices=[]):
            network = create_feature_extractor(
                name,
                [str(size)],
                cuda=False,
                verbose=False,
                feature_extractor_weights_path=str(path),
            )
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"{path} holds no {INCEPTION} weights: {_first_line(error)}") from None
    if lost := [key for key, own in network.state_dict().items() if not own.isfinite().all()]:
        raise UsageError(f"{path} holds weights that are not finite: {lost[0]}")
    channels = 3 if name == INCEPTION else None
    return Extractor(name, sha256, size, channels, device, network.to(device))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


@cache
def register() -> None:
    """Register digits-net with torch-fidelity, once a process, for its own functions too."""
    from torch_fidelity import register_feature_extractor
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class DigitsExtractor(FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **_: object) -> None:
            super().__init__(name, features_list)
            self.network = digits_net()

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return (str(FEATURES),)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return str(FEATURES)

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, x_NCHW: Tensor) -> tuple[Tensor]:
            return (self.network(x_NCHW).double(),)

    register_feature_extractor(DIGITS, DigitsExtractor)
