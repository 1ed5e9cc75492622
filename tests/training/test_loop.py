"""A training repeats, resumes and diverges as it should."""

import pytest
import torch
from toy import Toy

from harness import checkpoint
from harness.axes import schedules
from harness.cell import Budget, Cell, UsageError
from harness.checkpoint.tree import digest
from harness.training.loop import Diverged, Training

BUDGET = Budget(steps=20, batch_size=8)


def train(cell, until=20, topic=None):
    training = Training(topic or Toy(), cell, BUDGET)
    training.run(until)
    return training


def parameters(training):
    return digest(training.networks["model"].state_dict())


def test_the_same_cell_gives_the_same_numbers_bit_for_bit():
    cell = Cell("toy", "dropout", "mse", "cosine")
    first, second = train(cell), train(cell)
    assert parameters(first) == parameters(second)
    assert first.curve() == second.curve() and first.evaluate() == second.evaluate()


def test_seeds_differ():
    cells = [Cell("toy", "line", "mse", "cosine", seed=seed) for seed in (0, 1)]
    assert parameters(train(cells[0])) != parameters(train(cells[1]))


@pytest.mark.parametrize("schedule", schedules.NAMES)
@pytest.mark.parametrize("at", [1, 9, 19])
def test_resuming_gives_what_going_on_gives(schedule, at, tmp_path):
    cell = Cell("toy", "dropout", "mse", schedule)
    whole = train(cell)
    part = train(cell, at)
    checkpoint.save(tmp_path / "c.pt", part.state_dict())
    torch.randn(100)  # what happens in between must not matter
    resumed = Training(Toy(), cell, BUDGET)
    resumed.load_state_dict(checkpoint.load(tmp_path / "c.pt"))
    resumed.run(20)
    assert parameters(resumed) == parameters(whole)
    assert resumed.curve() == whole.curve()


def test_evaluating_does_not_change_the_training():
    cell = Cell("toy", "dropout", "mse", "cosine")
    watched = Training(Toy(), cell, BUDGET)
    for until in (5, 10, 20):
        watched.run(until)
        watched.evaluate()
    assert parameters(watched) == parameters(train(cell))


def test_training_helps():
    training = train(Cell("toy", "line", "mse", "constant"))
    assert training.evaluate()["mse"] < 0.2 * Toy().baseline(training.cell)["mse"]


def test_a_loss_that_is_not_finite_is_seen_with_its_step():
    with pytest.raises(Diverged, match="step 1"):
        train(Cell("toy", "line", "mse", "constant"), topic=Toy(misbehave="nan"))


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(UsageError, match="8 does not divide among 3"):
        Training(Toy(), Cell("toy", "line", "mse", "cosine"), BUDGET, world_size=3)
