"""What an agent copies to and from a simulated GPU: its weights, once, and what it learns from."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from harness.cell import Cell
from harness.topics.rl.agents import AGENTS


class Pixels(gymnasium.Env):
    """Shows an image for two steps, and then ends."""

    observation_space = spaces.Box(0, 255, (4, 4, 3), "uint8")
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.full((4, 4, 3), 7, np.uint8), {}

    def step(self, action):
        self.steps += 1
        return np.full((4, 4, 3), self.steps, np.uint8), 1.0, self.steps == 2, False, {}


@pytest.mark.parametrize("model", AGENTS)
def test_a_step_copies_weights_back_and_a_batch_there(model, training, topics, log):
    own = training(Cell("rl", model, *topics["rl"].recipe))
    own.advance()
    for _ in range(3):
        log.events.clear()
        own.advance()
        assert log.counts("") == {"h2d-async": 1, "d2h": 1}


@pytest.mark.parametrize("model", AGENTS)
def test_it_acts_as_it_has_learned(model, training, topics, log):
    own = training(Cell("rl", model, *topics["rl"].recipe))
    own.run(3)
    acting = own.batches.acting.now()
    for name, network in acting.items():
        for key, value in network.state_dict().items():
            assert value.device.type == "cpu"
            assert value.equal(own.networks[name].state_dict()[key].cpu()), (name, key)


@pytest.mark.parametrize("model", AGENTS)
def test_when_measured_it_acts_on_the_cpu(model, training, topics, log):
    own = training(Cell("rl", model, *topics["rl"].recipe))
    log.events.clear()
    assert own.validate()["return"] > 0
    looks = log.counts("")
    assert looks["d2h"] <= 3, looks  # weights, and whether they are finite; no step of an episode


def test_what_looks_at_images_acts_on_the_gpu(training, topics, log, monkeypatch):
    monkeypatch.setitem(
        gymnasium.registry, "Pixels-v0", gymnasium.envs.registration.EnvSpec("Pixels-v0", Pixels)
    )
    cell = Cell("rl", "policy_gradient", *topics["rl"].recipe)
    own = training(cell, topic=replace(topics["rl"], env="Pixels-v0"))
    own.advance()
    log.events.clear()
    own.advance()
    assert log.counts("") == {"h2d-async": 2 + 1 + 1, "d2h": 2 + 1}  # steps, values, a batch
