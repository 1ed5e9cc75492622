"""Parallel configurations over real ranks: audits, parity, accumulation, planted bugs."""

from dataclasses import replace

import pytest
from toy import Toy, outcome

from harness.axes import parallel
from harness.cell import Budget, Cell
from harness.topics.generators.gan import GAN

BUDGET = Budget(steps=20, batch_size=8, timeout_s=120)
CELL = Cell("toy", "line", "mse", "cosine")
RANKED = [name for name in parallel.NAMES if parallel.is_distributed(name)]


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("name", RANKED)
def test_a_configuration_trains_audits_and_is_exact_or_says_why_not(
    executor, tmp_path, name, ranks
):
    cell = replace(CELL, model="dropout" if ranks == 1 else "line", parallel=name)
    found = outcome(executor, Toy(), cell, tmp_path, ranks)
    assert found.status == "done", found
    audit = found.audited
    assert (audit.state_equal, audit.resume_equal, audit.metrics_equal) == (True,) * 3
    parity = found.parity
    if name in parallel.EXACT:
        assert parity.equal and parity.difference < 1e-5
    else:
        assert parity.equal is None and parity.reason


@pytest.mark.parametrize("name", RANKED)
def test_two_players_take_turns_in_every_configuration(executor, tmp_path, name):
    cell = Cell("gan", "dcgan", "mse", "constant", name)
    topic = GAN(fid_samples=200)
    found = outcome(executor, topic, cell, tmp_path, budget=Budget(4, 8, timeout_s=120))
    if found.status == "diverged":
        pytest.fail(found.reason)
    assert found.audited.resume_equal and found.parity.equal is not False


@pytest.mark.parametrize("name", ["single", "ddp", "zero1", "fsdp"])
def test_accumulated_gradients_are_the_whole_batchs(executor, tmp_path, name):
    cell = replace(CELL, parallel=name)
    ranks = parallel.ranks(name, 2)
    found = outcome(executor, Toy(), cell, tmp_path, ranks, accumulate=4)
    assert found.parity.equal and found.parity.difference < 1e-5
    assert found.audited.resume_equal
    single = outcome(executor, Toy(), CELL, tmp_path, 1)
    assert found.metrics["mse"] == pytest.approx(single.metrics["mse"], rel=1e-4)


@pytest.mark.parametrize("name", ["ddp", "zero1", "fsdp"])
def test_several_turns_a_step_are_the_same_over_ranks_and_parts(executor, tmp_path, name):
    cell = replace(CELL, parallel=name)
    found = outcome(executor, Toy(turns=3), cell, tmp_path, 2, accumulate=2)
    assert found.parity.equal and found.parity.difference < 1e-5
    assert found.audited.resume_equal
    single = outcome(executor, Toy(turns=3), CELL, tmp_path, 1)
    assert found.metrics["mse"] == pytest.approx(single.metrics["mse"], rel=1e-4)


class NotAveraged(Toy):
    """A planted bug: under ranks the network is called past its wrapper, so nothing is averaged."""

    def players(self, cell):
        (player,) = super().players(cell)

        def objective(networks, batch):
            model = networks["model"]
            return player.objective({"model": getattr(model, "module", model)}, batch)

        return [replace(player, objective=objective)]


class SameShard(Toy):
    """A planted bug: what each rank sees does not depend on its rank."""

    def players(self, cell):
        (player,) = super().players(cell)
        x, y = self._data()

        def objective(networks, batch):
            mine = {"x": x[: len(batch["x"])], "y": y[: len(batch["y"])]}
            ranked = len(batch["x"]) < BUDGET.batch_size
            return player.objective(networks, mine if ranked else batch)

        return [replace(player, objective=objective)]


@pytest.mark.parametrize("name", ["ddp", "zero1"])
@pytest.mark.parametrize("bug", [NotAveraged, SameShard])
def test_a_planted_bug_fails_its_cell_which_keeps_its_numbers(executor, tmp_path, bug, name):
    found = outcome(executor, bug(), replace(CELL, parallel=name), tmp_path)
    assert found.status == "failed" and found.parity.equal is False
    assert found.reason.startswith(f"{name} is not single's training: first losses differ by 0.")
    assert f"the first gradient by {found.parity.difference:.2g}" in found.reason
    assert found.metrics and found.curve and found.audited.resume_equal and found.cost
