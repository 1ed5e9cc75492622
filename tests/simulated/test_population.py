"""Populations on a simulated GPU: their numbers are the CPU's, and no step makes it wait."""

import json

import pytest
import torch

from experiments import speed_gpu
from harness.cell import Cell
from harness.topics.registry import registered_topics
from harness.training.population.population import Population

TOPICS = registered_topics()
MODELS = [(name, model) for name, topic in TOPICS.items() for model in topic.populates]
GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


@pytest.mark.parametrize(("name", "model"), MODELS)
def test_a_populations_steps_are_the_cpu_s_and_none_waits(name, model, log):
    topic = TOPICS[name]
    some = [Cell(name, model, topic.recipe[0], "cosine", seed=seed) for seed in (0, 1)]
    own, there = (
        Population(topic, some, topic.budget("smoke", model), device) for device in (GPU, CPU)
    )
    own.advance()
    with log.phase("step"):
        own.advance()
    there.run(2)
    losses = torch.stack(own.losses).cpu()
    torch.testing.assert_close(losses, torch.stack(there.losses), rtol=1e-4, atol=1e-5)
    counts = log.counts("step")
    assert counts.get("wait", 0) == counts.get("h2d", 0) == counts.get("d2h", 0) == 0
    own.update_members()
    own.members[0].run(3)  # alone


@pytest.mark.parametrize(("name", "model"), [("regression", "linear"), ("gan", "dcgan")])
def test_the_speed_of_a_population_is_measured(name, model, log, monkeypatch, capsys):
    monkeypatch.setattr(speed_gpu, "MEMBERS", 2)
    monkeypatch.setattr(speed_gpu, "ROUNDS", 1)
    speed_gpu.test_population(name, model, GPU)
    said = json.loads(capsys.readouterr().out)
    assert (said["topic"], said["model"], said["members"]) == (name, model, 2)
    assert said["gain"] == pytest.approx(2 * said["alone_ms"] / said["together_ms"])
