"""A Dataset's batches: each sample random by itself, a rank's share, resumed in an epoch."""

import random

import numpy as np
import pieces
import pytest
import torch
from torch.utils.data import default_collate

from harness.cell import Budget, Cell
from harness.topics import Supervised
from harness.topics.supervised.samples import Items, Read
from harness.training.loop import Training

CPU = torch.device("cpu")
CELL = Cell("mine", "line", "ce", "cosine")
BUDGET = Budget(steps=12, batch_size=16)


def topic(**settings):
    told = {"models": {"line": pieces.line}, "data": pieces.Pictures(), "task": "classification"}
    return Supervised("mine", **(told | settings))


def stream(dataset, seed=0):
    generator = torch.Generator().manual_seed(seed)
    items = Items("data", dataset, default_collate)
    return Read(items, torch.as_tensor, generator, CPU, torch.arange(len(dataset)))


def test_a_sample_is_the_same_whichever_rank_reads_it_and_read_by_no_other():
    whole = stream(pieces.Pictures()).draw(8)
    shares, read = [], []
    for rank in range(2):
        dataset = pieces.Pictures()
        shares.append(stream(dataset).draw_share(8, rank, 2))
        read.append(dataset.read)
    for name in ("x", "y"):
        assert torch.equal(torch.cat([share[name] for share in shares]), whole[name])
    assert [len(rows) for rows in read] == [4, 4] and not set(read[0]) & set(read[1])


def test_augmentation_differs_between_epochs_and_moves_no_generator():
    dataset = pieces.Pictures(count=8)
    batches = stream(dataset)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first, second = ({int(r): x for r, x in _by_row(batches, dataset)} for _ in range(2))
    assert first.keys() == second.keys() == set(range(8))
    assert not any(torch.equal(first[row], second[row]) for row in first)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def _by_row(batches, dataset):
    dataset.read.clear()
    x_B = batches.draw(8)["x"]
    return list(zip(dataset.read, x_B, strict=True))


@pytest.mark.parametrize("stop", [1, 3, 7])  # an epoch has 4 batches of 16 of 68 samples
def test_it_resumes_in_the_middle_of_an_epoch_bit_for_bit(stop):
    whole = Training(topic(), CELL, BUDGET)
    whole.run(stop)
    tree = whole.state_dict()
    whole.run(12)
    torch.rand(5), np.random.rand(3), random.random()  # a process with another history
    again = Training(topic(), CELL, BUDGET)
    again.load_state_dict(tree)
    again.run(12)
    assert torch.equal(torch.stack(again.losses), torch.stack(whole.losses))
    for own, other in zip(
        again.networks["model"].parameters(), whole.networks["model"].parameters(), strict=True
    ):
        assert torch.equal(own, other)


def padded(items):
    return torch.stack([x.flatten() for x, _ in items]), [y for _, y in items]


def test_a_collate_of_one_s_own_makes_the_batch():
    training = Training(topic(collate=padded), CELL, BUDGET)
    batch = training.batches.draw(16)
    assert batch["x"].shape == (16, 4) and batch["y"].dtype == torch.int64
    training.run(2)


def test_what_is_evaluated_is_the_same_each_time():
    training = Training(topic(), CELL, BUDGET)
    assert training.evaluate() == training.evaluate()
    assert training.validate() == training.validate()


def test_a_tensor_pair_trains_as_the_same_samples_of_a_dataset():
    pair = pieces.Plain()
    x, y = torch.stack([pair[i][0] for i in range(len(pair))]), torch.from_numpy(pair.y)
    fast = Training(topic(data=(x, y)), CELL, BUDGET).batches.draw(16)
    slow = Training(topic(data=pieces.Plain()), CELL, BUDGET).batches.draw(16)
    assert torch.equal(fast["x"], slow["x"]) and torch.equal(fast["y"], slow["y"])
