"""Fixtures of the tests under a simulated GPU, which ``tests/test_simulated_gpu.py`` starts."""

import gpu as simulated
import pytest
import torch

from harness.topics.registry import registered_topics
from harness.training.loop import Training
from harness.trial.device import repeatable

GPU = torch.device("cuda", 0)


@pytest.fixture(scope="session")
def topics():
    return registered_topics()


@pytest.fixture
def log():
    """The GPU's log of copies and waits."""
    with simulated.device() as log, repeatable("cuda"):
        yield log


@pytest.fixture
def training(topics):
    """Make a cell's training on the GPU, in smoke's budget."""

    def make(cell, device=GPU, topic=None, **more):
        topic = topic or topics[cell.topic]
        return Training(topic, cell, topic.budget("smoke", cell.model), device, **more)

    return make
