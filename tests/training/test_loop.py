"""A training repeats, resumes and diverges as it should."""

import threading
from dataclasses import dataclass, replace
from itertools import count
from typing import ClassVar

import pytest
import torch
from torch import nn
from toy import Toy, outcome

from harness import checkpoint
from harness.axes import schedules
from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell, UsageError
from harness.checkpoint.tree import digest
from harness.training import heartbeat
from harness.training.loop import Diverged, Training
from harness.training.topic import Player

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


def test_a_players_turns_are_optimizer_steps_on_batches_of_their_own():
    cell = Cell("toy", "dropout", "mse", "constant")
    some, many = train(cell, 4, Toy(turns=3)), train(cell, 12)
    assert parameters(some) == parameters(many)
    assert torch.equal(torch.stack(some.losses), torch.stack(many.losses)[2::3])


def test_a_schedule_moves_once_a_step_whatever_the_turns():
    cell = Cell("toy", "line", "mse", "cosine")
    assert train(cell, topic=Toy(turns=3)).rates == train(cell).rates


def test_players_after_one_with_several_turns_see_its_last_batch():
    seen = []

    class Pair(Toy):
        def players(self, cell):
            (first,) = super().players(cell)

            def objective(networks, batch):
                seen.append(batch["x"])
                return first.objective(networks, batch)

            return [
                replace(first, objective=objective, turns=2),
                replace(first, name="second", objective=objective),
            ]

    train(Cell("toy", "line", "mse", "constant"), 1, Pair())
    one, two, second = seen
    assert not torch.equal(one, two) and torch.equal(two, second)


@pytest.mark.parametrize("schedule", ["adam", "plateau"])
def test_resuming_with_several_turns_a_step_gives_what_going_on_gives(schedule):
    cell, topic = Cell("toy", "dropout", "mse", schedule), Toy(turns=3)
    whole = train(cell, topic=topic)
    middle = train(cell, 9, topic).state_dict()
    resumed = Training(topic, cell, BUDGET)
    resumed.load_state_dict(middle)
    resumed.run(20)
    assert parameters(resumed) == parameters(whole)


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


@dataclass(frozen=True)
class Steep(Toy):
    """Its loss is always finite; from call ``at`` on, by ``rank``, its gradient is not.

    fixed: whether it has a frozen network too, of weights that are not finite.
    """

    misbehave: str = "steeply"
    fixed: bool = False

    name: ClassVar[str] = "steep"

    def networks(self, cell):
        networks = super().networks(cell)
        if self.fixed:
            mask = nn.Linear(3, 3).requires_grad_(False)
            networks["mask"] = mask.apply(lambda one: one.weight.fill_(-torch.inf))
        return networks

    def players(self, cell):
        (player,) = super().players(cell)
        calls = count()

        def objective(networks, batch):
            guess_B = networks["model"](batch["x"])[:, 0]
            loss = (guess_B - batch["y"]).square().mean()
            slope = (0 * guess_B).sum().abs().sqrt()  # 0, and infinitely steep
            return loss + slope if self._now(next(calls)) else loss

        return [replace(player, objective=objective)]

    def validate(self, networks, cell):
        found = super().validate(networks, cell)
        if found["mse"] != found["mse"]:
            raise ValueError("a metric that takes no NaN")
        return found


STEEP = Cell("steep", "line", "mse", "constant")
LOST = "weights of model are not finite at step"


@pytest.mark.parametrize("steps", [1, 9, 20])
def test_weights_that_the_last_update_lost_are_seen_though_the_loss_is_finite(steps):
    training = Training(Steep(at=steps - 1), STEEP, Budget(steps=steps, batch_size=8))
    with pytest.raises(Diverged, match=f"{LOST} {steps}$") as caught:
        training.run(steps)
    assert caught.value.step == steps == len(training.losses)
    assert torch.stack(training.losses).isfinite().all()


def test_a_network_that_learns_nothing_may_hold_what_it_likes():
    training = Training(Steep(at=20, fixed=True), STEEP, BUDGET)
    training.run(20)
    assert training.validate()["mse"] < 1


def test_lost_weights_are_not_measured_on_the_way():
    training = Training(Steep(at=4), STEEP, BUDGET)
    training.run(4)
    assert training.validate()
    training.run(5)
    assert training.validate() == {}


@pytest.mark.parametrize("configuration", ["ddp", "fsdp", "zero1", "local_sgd"])
@pytest.mark.parametrize("looks", [0, 2])
def test_all_ranks_see_that_one_lost_its_weights(configuration, looks, executor, tmp_path):
    topic, budget = Steep(rank=1, at=19), replace(BUDGET, timeout_s=120)
    if looks:  # one after step 10, whose update loses them
        topic, budget = replace(topic, at=9), replace(budget, looks=looks)
    found = outcome(
        executor, topic, replace(STEEP, parallel=configuration), tmp_path, budget=budget
    )
    assert found.status == "diverged", found.reason
    if not looks:
        assert found.reason == f"{LOST} 20" and found.diverged_at == 20


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(UsageError, match="8 does not divide among 3"):
        Training(Toy(), Cell("toy", "line", "mse", "cosine"), BUDGET, world_size=3)


@dataclass(frozen=True)
class Frozen(Toy):
    """Two players on networks of which the topic froze parts, one of them whole.

    line moves body and fixed, head moves head; both have a layer that stays.
    """

    def networks(self, cell):
        body = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4))
        head = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
        body[0].requires_grad_(False)
        head[0].weight.requires_grad_(False)
        return {"body": body, "fixed": nn.Linear(4, 4).requires_grad_(False), "head": head}

    def players(self, cell):
        def objective(networks, batch):
            hidden = networks["fixed"](networks["body"](batch["x"]))
            return (networks["head"](hidden)[:, 0] - batch["y"]).square().mean()

        optimizer = self.base_optimizer(cell.model)
        return [
            Player("line", ("body", "fixed"), objective, optimizer),
            Player("head", ("head",), objective, optimizer),
        ]

    def evaluate(self, networks, cell):
        return {"mse": 0.0} | {
            f"{name}.{key}": value.double().sum().item()
            for name, network in networks.items()
            for key, value in network.state_dict().items()
        }

    def validate(self, networks, cell):
        return {}


STAYS = {
    *("body.0.weight", "body.0.bias", "fixed.weight", "fixed.bias", "head.0.weight"),
}


def moved(before, after):
    return {name for name in before if before[name] != after[name]}


def test_what_a_topic_froze_stays_beside_another_player():
    training = Training(Frozen(), Cell("toy", "line", "mse", "constant"), BUDGET)
    states = {
        name: {key: value.clone() for key, value in network.state_dict().items()}
        for name, network in training.networks.items()
    }
    training.run(20)
    for name, network in training.networks.items():
        for key, value in network.state_dict().items():
            assert torch.equal(states[name][key], value) is (f"{name}.{key}" in STAYS), (name, key)


@pytest.mark.parametrize("configuration", ["ddp", "fsdp", "zero1", "local_sgd"])
def test_it_stays_in_every_configuration(configuration, executor, tmp_path):
    cell = Cell("toy", "line", "mse", "constant", configuration)
    found = outcome(executor, Frozen(), cell, tmp_path)
    assert found.status == "done", found.reason
    start = Frozen().baseline(cell)
    assert moved(start, start | found.evaluation) == start.keys() - STAYS - {"mse"}
    assert found.audited.resume_equal and found.audited.state_equal


def test_a_parameter_of_two_networks_moves_with_either():
    class Tied(Frozen):
        def networks(self, cell):
            networks = super().networks(cell)
            networks["head"].append(networks["body"])
            return networks

    training = Training(Tied(), Cell("toy", "line", "mse", "constant"), BUDGET)
    tied = training.networks["body"][2].weight
    training.layout.freeze_others("line")
    assert tied.requires_grad and not training.networks["head"][1].weight.requires_grad
    training.layout.freeze_others("head")
    assert tied.requires_grad and not training.networks["body"][0].weight.requires_grad


@dataclass(frozen=True)
class Taught(Toy):
    """Learns beside a teacher that its objective calls, and no player moves."""

    fixed: bool = False

    def networks(self, cell):
        teacher = nn.Linear(3, 1).requires_grad_(not self.fixed)
        return {**super().networks(cell), "teacher": teacher}

    def players(self, cell):
        (player,) = super().players(cell)

        def objective(networks, batch):
            apart = networks["model"](batch["x"]) - networks["teacher"](batch["x"])
            return player.objective(networks, batch) + apart.square().mean()

        return [replace(player, objective=objective)]


def test_what_a_lone_player_does_not_move_gets_no_gradient():
    training = Training(Taught(), Cell("toy", "line", "mse", "constant"), BUDGET)
    assert training.networks["teacher"].weight.requires_grad  # until then, for who looks
    training.run(3)
    middle = training.state_dict()
    training.run(20)
    assert training.networks["teacher"].weight.grad is None
    alone = train(training.cell, topic=Taught(fixed=True))
    assert parameters(training) == parameters(alone)
    resumed = Training(Taught(), training.cell, BUDGET)
    resumed.load_state_dict(middle)
    resumed.run(20)
    assert resumed.networks["teacher"].weight.grad is None
    assert parameters(resumed) == parameters(alone)


class Shaped(Toy):
    """Its loss, times ``factor``, has a shape."""

    shape: ClassVar[tuple[int, ...]] = ()
    factor: ClassVar[float] = 1.0

    def players(self, cell):
        (player,) = super().players(cell)

        def objective(networks, batch):
            return (self.factor * player.objective(networks, batch)).expand(self.shape)

        return [replace(player, objective=objective)]


class OfOne(Shaped):
    shape = (1,)


class Steeper(OfOne):
    factor = 1e30


class OfEach(Shaped):
    shape = (8, 1)


def test_a_loss_of_one_number_may_have_a_shape():
    cell = Cell("toy", "line", "mse", "plateau")
    shaped, plain = train(cell, topic=OfOne()), train(cell)
    assert parameters(shaped) == parameters(plain) and shaped.curve() == plain.curve()
    with pytest.raises(Diverged, match="step 2"):
        train(cell, topic=Steeper())


def test_a_loss_of_several_numbers_is_refused():
    with pytest.raises(UsageError, match=r"player player .* shape \(8, 1\)"):
        train(Cell("toy", "line", "mse", "plateau"), topic=OfEach())


class Sometimes(Toy):
    """Its batches measure something at even steps, and something else at step 7."""

    def batches(self, cell, budget, networks, generator, device):
        batches, steps = super().batches(cell, budget, networks, generator, device), count(1)

        def measures():
            step = next(steps)
            found = {"even": float(step)} if step % 2 == 0 else {}
            return found | ({"seven": 7.0} if step == 7 else {})

        batches.measures = measures
        return batches


def test_a_measure_may_be_missing_at_a_step():
    training = train(Cell("toy", "line", "mse", "cosine"), topic=Sometimes())
    for name, at in {"even": {*range(2, 21, 2)}, "seven": {7}}.items():
        values = training.curve()[name]
        assert [v if v == v else None for v in values] == [
            float(step) if step in at else None for step in range(1, 21)
        ]
    resumed = Training(Sometimes(), training.cell, BUDGET)
    resumed.load_state_dict(training.state_dict())
    assert repr(resumed.curve()) == repr(training.curve())


def test_a_point_of_the_curve_has_the_last_measure_since_the_one_before():
    training = train(Cell("toy", "line", "mse", "cosine"), topic=Sometimes())
    curve = training.curve(points=4)
    assert curve["step"] == [5, 10, 15, 20] and curve["even"] == [4, 10, 14, 20]
    assert [v for v in curve["seven"] if v == v] == [curve["seven"][1]] == [7]


class Words(Toy):
    """Looks its numbers up by sparse gradients, beside or instead of the line."""

    optimizer: ClassVar[OptimizerSpec] = OptimizerSpec("sgd", lr=0.05, momentum=0.0)
    bag: ClassVar[type[nn.Module]] = nn.Embedding
    learns: ClassVar[bool] = True

    def base_optimizer(self, model):
        return self.optimizer

    def networks(self, cell):
        table = self.bag(4, 3, sparse=True).requires_grad_(self.learns)
        return {**super().networks(cell), "words": nn.Sequential(table)}

    def players(self, cell):
        (player,) = super().players(cell)

        def objective(networks, batch):
            number = (batch["y"] > 0).long()
            word = networks["words"](number[:, None]).reshape(-1, 3)
            return player.objective(networks, {**batch, "x": batch["x"] + word})

        return [replace(player, networks=("model", "words"), objective=objective)]


class Summed(Words):
    bag = nn.EmbeddingBag


class Momentum(Words):
    optimizer = OptimizerSpec("sgd", lr=0.05)


class Decayed(Words):
    optimizer = OptimizerSpec("sgd", lr=0.05, momentum=0.0, weight_decay=0.1)


class Known(Momentum):
    learns = False


@pytest.mark.parametrize(
    ("topic", "schedule", "kind"),
    [
        *((Words(), kind, kind) for kind in ("adam", "rmsprop", "adamw", "muon")),
        *((topic, "cosine", "sgd") for topic in (Momentum(), Decayed())),
        (Summed(), "adam", "adam"),
    ],
)
def test_sparse_gradients_that_an_optimizer_cannot_take_are_refused(topic, schedule, kind):
    with pytest.raises(UsageError, match=rf"words\.0\.weight has sparse .* {kind} cannot"):
        Training(topic, Cell("toy", "line", "mse", schedule), BUDGET)


@pytest.mark.parametrize("topic", [Words(), Summed(), Known()])
def test_others_train(topic):
    training = train(Cell("toy", "line", "mse", "cosine"), topic=topic)
    assert digest(training.state_dict()) and training.losses[-1] < training.losses[0]


def test_a_heart_ticks_while_a_compiler_is_at_work():
    memory = [0.0] * heartbeat.SLOTS
    heartbeat.beat_in(memory)
    before = threading.active_count()
    with heartbeat.ticking():
        assert threading.active_count() == before + 1
    assert threading.active_count() == before and memory[heartbeat.AT] > 0
    heartbeat.beat_in([0.0] * heartbeat.SLOTS)
