"""What an agent copies to and from a simulated GPU: what acting asks for, and little more."""

import pytest

from harness.cell import Cell
from harness.topics.rl.agents import AGENTS, DQN


@pytest.mark.parametrize("model", AGENTS)
def test_a_step_copies_what_acting_asks_for_and_its_batch(model, training, topics, log):
    own = training(Cell("rl", model, *topics["rl"].recipe))
    own.advance()
    envs = own.batches.envs
    for _ in range(3):
        before = envs.env_steps
        log.events.clear()
        own.advance()
        acted = (envs.env_steps - before) // envs.count
        learning = (1, 0) if isinstance(AGENTS[model], DQN) else (2, 1)  # next values, and a batch
        assert acted >= 1 and log.counts("") == {
            "h2d-async": acted + learning[0],
            "d2h": acted + learning[1],
        }
