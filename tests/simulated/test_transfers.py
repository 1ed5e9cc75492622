"""What goes to a simulated GPU, and how often: an epoch's random choices, in one copy."""

import pytest
import torch

from harness.cell import Cell
from harness.conformance import outside
from harness.topics.registry import registered_topics
from harness.training import transfers
from harness.training.batches import Shuffled, WithNoise
from harness.training.transfers import Ahead, together

TOPICS = registered_topics()
GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
CELLS = [
    Cell(topic.name, model, *topic.recipe)
    for topic in TOPICS.values()
    for model in topic.models
    if topic.name != "rl" and model not in topic.fits
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ahead(made, device=GPU):
    """Return draws of other types and sizes that are made ahead by a generator."""

    def draw(size, step):
        normal = torch.randn(size, 3, generator=made)
        return {"normal": normal, "whole": torch.randint(9, (size,), generator=made), "step": STEP}

    return Ahead(draw, made, device)


STEP = torch.tensor([True, False, True])


def same(got, expected):
    assert got.keys() == expected.keys()
    return all(torch.equal(got[name].cpu(), value) for name, value in expected.items())


def copies(log, phase):
    return sum(n for kind, n in log.counts(phase).items() if kind.startswith("h2d"))


def epoch(training):
    """Return how many batches an epoch of a training has."""
    batches = getattr(training.batches, "batches", training.batches)
    samples = batches.size if isinstance(batches, Shuffled) else len(batches.x_NCHW)
    return samples // training.budget.batch_size


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_nothing_that_is_copied_looks_like_unsaved_state(cell, training, log):
    own, again = training(cell), training(cell)
    own.run(2)
    again.load_state_dict(own.state_dict())
    assert outside.hidden(own) == outside.hidden(again)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_an_epoch_is_one_copy(cell, training, log):
    own = training(cell)
    length, turns = epoch(own), own.players[0].turns
    own.advance()  # makes what is kept on the GPU, and begins an epoch
    drawn = turns
    with log.phase("steps"):
        while drawn < 3 * length and own.step < own.budget.steps:
            own.advance()
            drawn += turns
    assert copies(log, "steps") == (drawn - 1) // length


@pytest.mark.parametrize(
    "name", ["gan/wgan_gp", "vae/vae", "style_gan/style_gan", "multitask/equal"]
)
def test_the_generator_stands_where_each_step_left_it(name, training, log):
    cell = Cell(*name.split("/"), *TOPICS[name.partition("/")[0]].recipe)
    own, there = training(cell), training(cell, CPU)
    length = epoch(own)
    size = own.budget.batch_size
    for step in range(length + 2):  # into the next epoch
        got, expected = own.batches.draw(size), there.batches.draw(size)
        for key, value in expected.items():
            torch.testing.assert_close(got[key].cpu(), value)
        assert torch.equal(own.generator.get_state(), there.generator.get_state()), step


@pytest.mark.parametrize("block", [1, 150, 10**6])  # bytes: a step has more than 100
def test_draws_ahead_are_those_of_step_by_step(log, monkeypatch, block):
    monkeypatch.setattr(transfers, "BLOCK_BYTES", block)
    made, alone = generator(), generator()
    own, steps = ahead(made), ahead(alone, CPU)
    with log.phase("steps"):
        for _ in range(10):
            assert same(own.next(4, 5), steps.next(4, 1))
            assert torch.equal(made.get_state(), alone.get_state())
    assert copies(log, "steps") == (2 if block == 10**6 else 10)


def test_another_batch_size_is_drawn_anew(log):
    own, steps = ahead(generator()), ahead(generator(), CPU)
    for size in (4, 4, 2, 4):
        assert same(own.next(size, 5), steps.next(size, 1))


def test_a_state_brought_back_is_gone_on_from(log):
    made = generator()
    own = ahead(made)
    own.next(4, 5)
    state = made.get_state()
    first = [own.next(4, 5) for _ in range(3)]
    made.set_state(state)
    own.forget()
    assert all(same(own.next(4, 5), {k: v.cpu() for k, v in one.items()}) for one in first)


def test_beside_other_draws_nothing_is_drawn_in_vain(log):
    made, alone = generator(), generator()
    own, steps, calls = ahead(made), ahead(alone, CPU), []
    draw = own.draw
    own.draw = lambda size, step: calls.append(step) or draw(size, step)
    for _ in range(6):
        assert same(own.next(4, 5), steps.next(4, 1))
        assert torch.rand(1, generator=made) == torch.rand(1, generator=alone)
    assert calls == [0, 1, 2, 3, 4, 0, 0, 0, 0, 0]


def test_noise_beside_a_stream_that_draws_in_a_way_of_its_own(log):
    class Augmented(Shuffled):
        def draw(self, size):
            batch = super().draw(size)
            moved = torch.randint(3, (size,), generator=self.generator).to(self.device)
            return {"x": batch["x"] + moved}

    own, there = (
        WithNoise(Augmented({"x": torch.arange(12)}, generator(), device), {"noise": (2,)})
        for device in (GPU, CPU)
    )
    for _ in range(7):
        assert same(own.draw(4), there.draw(4))


def test_what_is_there_already_stays_and_what_goes_back_waits(log):
    there, here = torch.ones(2, device=GPU), torch.zeros(3)
    with log.phase("copy"):
        found = together({"there": there, "here": here}, CPU)
    assert found["here"] is here and found["there"].tolist() == [1.0, 1.0]
    assert log.counts("copy") == {"d2h": 1}


def test_tensors_of_all_types_go_in_one_copy(log):
    tensors = {
        "bytes": torch.arange(3, dtype=torch.uint8),
        "truth": torch.tensor([[True], [False]]),
        "whole": torch.arange(5)[::2],
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "half": torch.ones(3, 1, dtype=torch.bfloat16),
        "none": torch.empty(0, 2),
    }
    with log.phase("copy"):
        found = together(tensors, GPU)
    assert copies(log, "copy") == log.counts("copy")["h2d-async"] == 1
    for name, tensor in tensors.items():
        assert found[name].device == GPU and found[name].dtype == tensor.dtype
        assert torch.equal(found[name].cpu(), tensor)
