"""Topics with one fault each, planted where people make it, and one without."""

import io
import random
import time
from dataclasses import dataclass
from itertools import count
from typing import ClassVar

import numpy as np
import torch
from torch import nn, optim
from torch.func import grad, vmap
from torch.nn import functional as F

from harness import Batches, Budget, OptimizerSpec, Player, Shuffled, Topic
from harness.topics.supervised.supervised import Supervised

RNG = np.random.default_rng(0)  # module-level: seeded, but in no checkpoint


def closed_archive():
    file = io.BytesIO()
    np.savez(file, x=np.ones(3))
    file.seek(0)
    archive = np.load(file)
    archive.close()
    return archive


ARCHIVE = closed_archive()  # a mapping whose values cannot be had


class Net(nn.Module):
    """Two layers, and between them whatever a fault puts there."""

    def __init__(self, between=None):
        super().__init__()
        self.first, self.between, self.last = nn.Linear(3, 8), between, nn.Linear(8, 1)

    def forward(self, x):
        x = self.first(x).tanh()
        return self.last(x if self.between is None else self.between(x))[:, 0]


@dataclass(frozen=True)
class Clean(Topic):
    """A line, fitted by a small network; each fault overrides one method."""

    name: ClassVar[str] = "mine"
    models: ClassVar[tuple[str, ...]] = ("mlp",)
    recipe: ClassVar[tuple[str, str]] = ("mse", "cosine")
    directions: ClassVar[dict] = {"mse": "min"}
    budgets: ClassVar[dict] = {
        profile: Budget(steps=20, batch_size=8, timeout_s=120)
        for profile in ("smoke", "quick", "full")
    }

    def dataset_id(self):
        return "mine@0"

    def base_optimizer(self, model):
        return OptimizerSpec("sgd", lr=0.05)

    def between(self):
        return None

    def networks(self, cell):
        return {"model": Net(self.between())}

    def players(self, cell):
        return [Player("learner", ("model",), self.objective, self.base_optimizer(cell.model))]

    def objective(self, networks, batch):
        return F.mse_loss(networks["model"](batch["x"]), batch["y"])

    def data(self):
        x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
        return x, x.sum(1)

    def batches(self, cell, budget, networks, generator, device):
        x, y = self.data()
        return Shuffled({"x": x, "y": y}, generator, device)

    @torch.no_grad()
    def evaluate(self, networks, cell):
        x, y = self.data()
        device = next(networks["model"].parameters()).device
        return {"mse": F.mse_loss(networks["model"](x.to(device)), y.to(device)).item()}


class BatchNorm(Clean):
    def between(self):
        return nn.BatchNorm1d(8)


class Dropout(Clean):
    def between(self):
        return nn.Dropout(0.5)


# gradients ---------------------------------------------------------------------------------------


class Scale(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return x * self.scale


class Frozen(Clean):
    """requires_grad forgotten."""

    def between(self):
        return Scale(nn.Parameter(torch.ones(8), requires_grad=False))


class NoParameter(Clean):
    def between(self):
        return Scale(torch.ones(8, requires_grad=True))


class Unused(Clean):
    def between(self):
        module = nn.Identity()
        module.extra = nn.Linear(2, 2)
        return module


class Detached(Clean):
    def objective(self, networks, batch):
        net = networks["model"]
        return F.mse_loss(net.last(net.first(batch["x"]).tanh().detach())[:, 0], batch["y"])


class Zero(Clean):
    def between(self):
        module = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        nn.init.constant_(module[0].bias, -100.0)
        return module


class NobodyMoves(Clean):
    def networks(self, cell):
        return {"model": Net(), "head": nn.Linear(1, 1)}

    def objective(self, networks, batch):
        return F.mse_loss(
            networks["head"](networks["model"](batch["x"])[:, None])[:, 0], batch["y"]
        )


class Target(Clean):
    """A target network, as of DQN: no player's, and copied now and then."""

    def networks(self, cell):
        return {"model": Net(), "target": Net()}

    def objective(self, networks, batch):
        with torch.no_grad():
            ahead = networks["target"](batch["x"])
        return F.mse_loss(networks["model"](batch["x"]), batch["y"] + 0.1 * ahead)

    def each_step(self, networks, cell, step, steps):
        if step % 10 == 0:
            networks["target"].load_state_dict(networks["model"].state_dict())


class TwoPlayers(NobodyMoves):
    """Several players, where what one does not move is frozen in its turn."""

    def players(self, cell):
        spec = self.base_optimizer(cell.model)
        return [Player(name, ("model",), self.objective, spec) for name in ("one", "other")]


class TwoPlayersAndTarget(Target, TwoPlayers):
    def networks(self, cell):
        return Target.networks(self, cell)


class Experts(nn.Module):
    """Sends each sample to one of three layers; the last is for what is far out."""

    def __init__(self, dense):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.dense = dense

    def forward(self, x):
        chosen = (x[:, 0] > 0).long()
        parts = enumerate(self.experts) if self.dense else enumerate(self.experts[:2])
        return sum(layer(x) * (chosen == n)[:, None] for n, layer in parts)


class Sparsely(Clean):
    def between(self):
        return Experts(False)


class Densely(Clean):
    def between(self):
        return Experts(True)


# loss falls --------------------------------------------------------------------------------------


class WrongSign(Clean):
    """The value is the error, its gradient leads up."""

    def objective(self, networks, batch):
        error = super().objective(networks, batch)
        return 2 * error.detach() - error


class TooFast(Clean):
    def base_optimizer(self, model):
        return OptimizerSpec("sgd", lr=2.0)


# determinism -------------------------------------------------------------------------------------


class Unseeded(Clean):
    """The data are shuffled by a generator of its own, without a seed."""

    def batches(self, cell, budget, networks, generator, device):
        own = torch.Generator()
        own.seed()
        return super().batches(cell, budget, networks, own, device)


class UnseededWeights(Clean):
    def networks(self, cell):
        networks = {"model": Net()}
        with torch.no_grad():
            drawn = np.random.default_rng().normal(size=(8, 3))
            networks["model"].first.weight.copy_(torch.from_numpy(drawn))
        return networks


class UnseededNoise(Clean):
    def between(self):
        return Noise(lambda: np.random.default_rng())


class Clocked(Clean):
    def objective(self, networks, batch):
        return super().objective(networks, batch) + 1e-3 * (time.time() % 1)


class SetOrder(Clean):
    """Text is hashed otherwise in each process."""

    def batches(self, cell, budget, networks, generator, device):
        x, y = self.data()
        rows = torch.tensor([int(name) for name in {str(n) for n in range(64)}])
        return Shuffled({"x": x[rows], "y": y[rows]}, generator, device)


# shards ------------------------------------------------------------------------------------------


class BatchStd(nn.Module):
    """Normalises by the batch: each shard by its own."""

    def forward(self, x):
        return x / (x.std(0, keepdim=True) + 0.1)


class ShardNorm(Clean):
    def between(self):
        return BatchStd()


class Follower(nn.Module):
    """Takes from its input the mean of the batch before, which it keeps in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x):
        before = self.mean
        if self.training:
            self.mean = x.detach().mean(0)
        return x - before


class Followed(Clean):
    def between(self):
        return Follower()


class SumLoss(Clean):
    def base_optimizer(self, model):
        return OptimizerSpec("sgd", lr=0.005)

    def objective(self, networks, batch):
        return (networks["model"](batch["x"]) - batch["y"]).square().sum()


class MaxLoss(Clean):
    def objective(self, networks, batch):
        return (networks["model"](batch["x"]) - batch["y"]).square().max()


class SumLossAndBatchNorm(SumLoss):
    def between(self):
        return nn.BatchNorm1d(8)


class NoisySum(Clean):
    def objective(self, networks, batch):
        x = batch["x"] + 0.1 * torch.randn_like(batch["x"])
        return (networks["model"](x) - batch["y"]).square().sum()


class NoisyMean(Clean):
    def objective(self, networks, batch):
        x = batch["x"] + 0.1 * torch.randn_like(batch["x"])
        return F.mse_loss(networks["model"](x), batch["y"])


class Penalty(Clean):
    """A gradient penalty at points that the objective draws."""

    def objective(self, networks, batch):
        x = torch.rand_like(batch["x"]).requires_grad_()
        (slope,) = torch.autograd.grad(networks["model"](x).sum(), x, create_graph=True)
        return super().objective(networks, batch) + (slope.norm(dim=1) - 1).square().mean()


class NoisySumAndSum(NoisySum):
    """Of two players' objectives, one draws; both sum."""

    def networks(self, cell):
        return {"model": Net(), "other": Net()}

    def players(self, cell):
        def other(networks, batch):
            return SumLoss.objective(self, {"model": networks["other"]}, batch)

        spec = self.base_optimizer(cell.model)
        return [
            Player("learner", ("model",), self.objective, spec),
            Player("other", ("other",), other, spec),
        ]


# state and resume --------------------------------------------------------------------------------


class Running(nn.Module):
    """A running mean that is no buffer."""

    def __init__(self):
        super().__init__()
        self.mean = torch.zeros(8)

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x - self.mean


class NoBuffer(Clean):
    def between(self):
        return Running()


class NotPersistent(Clean):
    def between(self):
        module = Running()
        del module.mean
        module.register_buffer("mean", torch.zeros(8), persistent=False)
        return module


class Remembers(nn.Module):
    """Keeps its last output to look at: harmless."""

    def forward(self, x):
        self.last = x.detach()
        return x


class Harmless(Clean):
    def between(self):
        return Remembers()


class Noise(nn.Module):
    def __init__(self, rng):
        super().__init__()
        self.rng = rng

    def forward(self, x):
        return x + 0.1 * torch.from_numpy(self.rng().normal(size=(8,))).float() * self.training


class UnsavedRNG(Clean):
    """A module's generator goes on from where this process is, not from where the training was."""

    def between(self):
        return Noise(lambda: RNG)


class GlobalDraws(Clean):
    """Python's, NumPy's and torch's global generators: all of them are saved."""

    def objective(self, networks, batch):
        drawn = random.random() + np.random.rand() + torch.rand(()).item()
        return super().objective(networks, batch) * (1 + 0.1 * drawn)


class Positions(Batches):
    """A stream that forgets to save where it is."""

    def __init__(self, x, y):
        self.x, self.y, self.position = x, y, 0

    def draw(self, size):
        rows = torch.arange(self.position, self.position + size) % len(self.x)
        self.position += size
        return {"x": self.x[rows], "y": self.y[rows]}


class LostPosition(Clean):
    def batches(self, cell, budget, networks, generator, device):
        return Positions(*(tensor.to(device) for tensor in self.data()))


class Unread(Positions):
    """Saves its position, and does not load it."""

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        pass


class Forgetful(Clean):
    def batches(self, cell, budget, networks, generator, device):
        return Unread(*(tensor.to(device) for tensor in self.data()))


class Heavy(optim.SGD):
    """SGD whose velocity is kept beside the state that is saved."""

    def __init__(self, parameters, **settings):
        super().__init__(parameters, lr=settings["lr"])
        self.velocity = []

    def step(self, closure=None):
        parameters = [p for group in self.param_groups for p in group["params"]]
        self.velocity = self.velocity or [torch.zeros_like(p) for p in parameters]
        with torch.no_grad():
            for velocity, parameter in zip(self.velocity, parameters, strict=True):
                velocity.mul_(0.9).add_(parameter.grad)
                parameter.sub_(0.01 * velocity)


@dataclass(frozen=True)
class HeavySpec(OptimizerSpec):
    def build(self, kind, parameters, make=None):
        return Heavy(list(parameters), lr=self.lr)


class LostVelocity(Clean):
    def base_optimizer(self, model):
        return HeavySpec("sgd", lr=0.01)


class Archived(Clean):
    """Its batches hold a closed file of arrays, as its module does."""

    def batches(self, cell, budget, networks, generator, device):
        stream = super().batches(cell, budget, networks, generator, device)
        stream.archive = ARCHIVE
        return stream


class Counting(Clean):
    """An objective that keeps count of its calls."""

    def players(self, cell):
        calls = count(1)

        def objective(networks, batch):
            return self.objective(networks, batch) * (1 + 1 / next(calls))

        return [Player("learner", ("model",), objective, self.base_optimizer(cell.model))]


# devices -----------------------------------------------------------------------------------------


class Offset(nn.Module):
    def forward(self, x):
        return x + torch.ones(8)


class MadeOnCPU(Clean):
    def between(self):
        return Offset()


class PlainTensor(Clean):
    def between(self):
        return Scale(torch.ones(8))


class StaysOnCPU(Clean):
    def batches(self, cell, budget, networks, generator, device):
        return super().batches(cell, budget, networks, generator, torch.device("cpu"))


class EvaluatesOnCPU(Clean):
    @torch.no_grad()
    def evaluate(self, networks, cell):
        x, y = self.data()
        return {"mse": F.mse_loss(networks["model"](x), y).item()}


class CPUGenerator(Clean):
    def objective(self, networks, batch):
        x = batch["x"]
        noise = torch.randn(x.shape, device=x.device, generator=torch.Generator().manual_seed(0))
        return super().objective(networks, {**batch, "x": x + 0.1 * noise})


class Recurrent(nn.Module):
    """A GRU, or another; told of a device, it begins with a state there."""

    def __init__(self, begin=None, kind=nn.GRU):
        super().__init__()
        self.layer, self.last, self.begin = kind(1, 8, batch_first=True), nn.Linear(8, 1), begin

    def forward(self, x):
        state = torch.zeros(1, len(x), 8, device=self.begin) if self.begin else None
        states, _ = self.layer(x[:, :, None], state)
        return self.last(states[:, -1])[:, 0]


class GRU(Clean):
    def networks(self, cell):
        return {"model": Recurrent()}


class LSTM(Clean):
    def networks(self, cell):
        return {"model": Recurrent(kind=nn.LSTM)}


class StateOnCPU(Clean):
    def networks(self, cell):
        return {"model": Recurrent("cpu")}


class Unsimulated(Clean):
    """Calls an operator that needs a GPU to be told about."""

    def objective(self, networks, batch):
        scores = networks["model"].first(batch["x"]).log_softmax(1)[:, None]
        targets = torch.ones(1, 2, dtype=torch.long, device=scores.device)
        return F.ctc_loss(scores, targets, (len(scores),), (2,))


class Branches(Clean):
    """What it computes depends on numbers, which a simulated GPU has not."""

    def objective(self, networks, batch):
        if batch["x"].sum() > 0:
            return super().objective(networks, batch)
        return super().objective(networks, batch) * 1.0

    def batches(self, cell, budget, networks, generator, device):
        stream = super().batches(cell, budget, networks, generator, device)
        stream.tensors["x"].sum().item()
        return stream


# evaluation --------------------------------------------------------------------------------------


class Trains(BatchNorm):
    """Evaluates in training mode: the statistics move with the test data."""

    def evaluate(self, networks, cell):
        networks["model"].train()
        return super().evaluate(networks, cell)


class DropsInEvaluation(Dropout):
    def evaluate(self, networks, cell):
        networks["model"].between.train()
        found = super().evaluate(networks, cell)
        networks["model"].between.eval()
        return found


class LeavesTrainMode(Dropout):
    def evaluate(self, networks, cell):
        found = super().evaluate(networks, cell)
        networks["model"].train()
        return found


class NaN(Clean):
    def evaluate(self, networks, cell):
        return {"mse": float("nan")}


class Undeclared(Clean):
    def evaluate(self, networks, cell):
        return {"mae": 1.0}


class Scatters(Clean):
    def evaluate(self, networks, cell):
        return {"mse": float(np.random.default_rng().random())}


class Optimizes(Clean):
    def evaluate(self, networks, cell):
        with torch.no_grad():
            networks["model"].first.bias.add_(1)
        return super().evaluate(networks, cell)


# torch.func and sparse gradients -----------------------------------------------------------------


class Slopes(Clean):
    """A network's slope at each sample, as of a physics-informed one."""

    def objective(self, networks, batch):
        def height(x):
            return networks["model"](x[None])[0]

        slopes = vmap(grad(height), randomness="different")(batch["x"])
        return (slopes.sum(1) - 3).square().mean() + super().objective(networks, batch)


class NoisySlopes(Slopes):
    def between(self):
        return Noise(lambda: np.random.default_rng())


class SparseBag(Clean):
    """An embedding whose gradient is sparse; SGD's momentum would be, which no checkpoint holds."""

    def base_optimizer(self, model):
        return OptimizerSpec("sgd", lr=0.05, momentum=0.0)

    def networks(self, cell):
        return {"model": Bag()}


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag, self.last = nn.EmbeddingBag(9, 8, sparse=True), nn.Linear(8, 1)

    def forward(self, x):
        return self.last(self.bag((4 * x.sigmoid()).long()))[:, 0]


# all ---------------------------------------------------------------------------------------------


class Raises(Clean):
    def objective(self, networks, batch):
        return networks["model"](batch["z"]).mean()


class SupervisedOffset(nn.Module):
    """A network whose topic is the package's own, and whose fault is here."""

    def __init__(self, outputs):
        super().__init__()
        self.layer = nn.Linear(3, outputs)

    def forward(self, x):
        return Offset.forward(self, self.layer(x).expand(-1, 8))[:, :1]


def pair():
    return Clean().data()


def supervised():
    models = {"net": SupervisedOffset}
    return Supervised("own", models=models, data=pair, task="regression", steps=20, batch_size=8)


def make():
    """A topic of the kind that a function gives."""
    return Clean()


def no_pair(items):
    return items


def refused():
    """A topic whose data is refused, once it is read."""
    models, data = {"net": SupervisedOffset}, [*zip(*pair(), strict=True)]
    return Supervised("own", models=models, data=data, task="regression", collate=no_pair)


def refused_at_once():
    return Supervised("own", models={"a net": SupervisedOffset}, data=pair, task="regression")
