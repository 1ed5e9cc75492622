"""Every topic on a simulated GPU: its numbers are the CPU's, and no step makes the GPU wait."""

from dataclasses import replace

import pytest
import torch

from harness import checkpoint, matrix
from harness.axes.losses import FAMILIES
from harness.cell import Cell
from harness.topics.registry import registered_topics

TOPICS = registered_topics()
CELLS = [
    cell
    for name, topic in TOPICS.items()
    for model in topic.models
    for loss in FAMILIES
    if model not in topic.fits
    and matrix.skip_reason(topic, cell := Cell(name, model, loss, topic.recipe[1]), 1) is None
]
MODELS = [cell for cell in CELLS if cell.loss == TOPICS[cell.topic].recipe[0]]
READS_BACK = {  # times a step that an agent's values must come to the environment, at most
    "policy_gradient": 502,  # a whole episode
    "actor_critic": 10,
    **dict.fromkeys(("dqn", "double_dqn", "dueling_dqn", "double_dueling_dqn"), 1),
}
CPU = torch.device("cpu")


def losses(training):
    return torch.stack(training.losses).cpu()


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_a_loss_is_the_cpu_s_and_no_step_waits(cell, training, log):
    own, there = training(cell), training(cell, CPU)
    own.advance()
    with log.phase("step"):
        own.advance()
    there.run(2)
    torch.testing.assert_close(losses(own), losses(there), rtol=1e-5, atol=1e-6)
    counts = log.counts("step")
    assert counts.get("d2h", 0) <= READS_BACK.get(cell.model, 0)
    assert counts.get("wait", 0) == counts.get("h2d", 0) == 0


@pytest.mark.parametrize("cell", MODELS, ids=lambda cell: cell.id)
def test_a_checkpoint_goes_on_there_and_on_the_cpu(cell, training, log, tmp_path):
    own = training(cell)
    own.run(2)
    checkpoint.save(tmp_path / "middle.pt", own.state_dict())
    tree = checkpoint.load(tmp_path / "middle.pt")
    again, elsewhere = training(cell), training(cell, CPU)
    for other in (again, elsewhere):
        other.load_state_dict(tree)
    for one in (own, again, elsewhere):
        one.run(4)
    assert torch.equal(losses(own), losses(again))
    torch.testing.assert_close(losses(own), losses(elsewhere), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", MODELS, ids=lambda cell: cell.id)
def test_it_evaluates_and_samples_there(cell, training, log):
    topic = TOPICS[cell.topic]
    if topic.generates:
        topic = replace(topic, fid_samples=16 * 70 if topic.name == "style_gan" else 100)
    own = training(cell, topic=topic)
    own.advance()
    assert own.evaluate() and own.validate() is not None
    if topic.generates:
        assert own.sample(16).shape[0] == 16
