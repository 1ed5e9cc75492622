"""The built-in topics (learning problems), and a function that finds all registered ones.

A topic of its own reads top to bottom in one file: data, networks, objective, evaluation. The
classes are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.topics.generators.gan import GAN
    from harness.topics.generators.pixelcnn import PixelCNNTopic
    from harness.topics.generators.style_gan import StyleGAN
    from harness.topics.generators.vae import VAE
    from harness.topics.multitask.multitask import Multitask
    from harness.topics.registry import registered_topics
    from harness.topics.regression import Regression
    from harness.topics.rl.agents import RL
    from harness.topics.supervised.supervised import Supervised
    from harness.topics.vgg import VGG

_HOMES = {
    "GAN": "generators.gan",
    "PixelCNNTopic": "generators.pixelcnn",
    "StyleGAN": "generators.style_gan",
    "VAE": "generators.vae",
    "Multitask": "multitask.multitask",
    "registered_topics": "registry",
    "Regression": "regression",
    "RL": "rl.agents",
    "Supervised": "supervised.supervised",
    "VGG": "vgg",
}

__all__ = [
    "GAN",
    "RL",
    "VAE",
    "VGG",
    "Multitask",
    "PixelCNNTopic",
    "Regression",
    "StyleGAN",
    "Supervised",
    "registered_topics",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"harness.topics.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'harness.topics' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
