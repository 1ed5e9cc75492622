"""Measure the harness's overhead: cells through the executor against bare PyTorch loops.

``nox -s speed`` runs this on an idle machine. A cell does more than its training: it is saved,
audited in another process, evaluated again there and, once for its model, loss and seed, before any
training. ``ratio`` is all of that over the bare loop, a median over pairs run one after the other;
``added_ms`` is the difference for a cell.
"""

import time
from statistics import median

import pytest
import torch
from torch.nn import functional as F

from harness.cell import Cell
from harness.runs import Run
from harness.topics import datasets
from harness.topics.registry import registered_topics

TOPICS = registered_topics()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def bare(network, optimizer, schedule, objective, x, y, steps):
    """Run a PyTorch user's own training loop over shuffled batches of 64."""
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < 64:
            order = torch.randperm(len(x))
        index, order = order[:64], order[64:]
        optimizer.zero_grad()
        objective(network(x[index]), y[index]).backward()
        optimizer.step()
        schedule.step()


def bare_vgg(cell, steps):
    """Train and evaluate a vgg cell by a bare loop."""
    torch.manual_seed(cell.seed)
    network = TOPICS["vgg"].networks(cell)["model"]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    kinds = {
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0, 0),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
        "one_cycle": lambda: torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1e-3, total_steps=steps + 1, cycle_momentum=False
        ),
    }
    schedule = kinds[cell.schedule]()
    split = datasets.images("digits")
    x, y = datasets.fit_images(split.train_x, 32), split.train_y
    bare(network, optimizer, schedule, F.cross_entropy, x, y, steps)
    TOPICS["vgg"].evaluate({"model": network.eval()}, cell)


def bare_linear(cell, steps):
    """Train and evaluate a linear regression cell by a bare loop."""
    torch.manual_seed(cell.seed)
    split = datasets.table()
    network = torch.nn.Linear(split.train_x.shape[1], 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    mse = lambda outputs, target: F.mse_loss(outputs[:, 0], target)  # noqa: E731  (a loss, inline)
    bare(network, optimizer, schedule, mse, split.train_x, split.train_y, steps)
    TOPICS["regression"].evaluate({"model": network.eval()}, cell)


@pytest.fixture
def warm_run(tmp_path):
    """Yield a run whose worker and auditor processes have done a cell already."""
    run = Run(tmp_path, TOPICS, "smoke", rerun=True, report=lambda line: None)
    run.start([Cell("regression", "linear", "mse", "cosine", seed=99)])
    run.finish()
    yield run
    run.close()


def beside(benchmark, run, profile, own, cells):
    """Time each cell through the harness, alone, right after its bare loop ``own``."""
    run.profile = profile
    bare_s, waiting = [], iter(cells)

    def setup():
        cell = next(waiting)
        begun = time.perf_counter()
        own(cell, run.budget(cell).steps)
        bare_s.append(time.perf_counter() - begun)
        return ([cell],), {}

    def harness(chosen):
        run.start(chosen)
        run.finish()
        assert run.records[chosen[0]].status == "done"

    benchmark.pedantic(harness, setup=setup, rounds=len(cells))
    harness_s = benchmark.stats.stats.data
    benchmark.extra_info |= {
        "bare_ms": 1e3 * median(bare_s),
        "harness_ms": 1e3 * median(harness_s),
        "ratio": median(b / a for a, b in zip(bare_s, harness_s, strict=True)),
        "added_ms": 1e3 * median(b - a for a, b in zip(bare_s, harness_s, strict=True)),
    }
    print({name: round(value, 3) for name, value in benchmark.extra_info.items()})


def test_a_cell_of_5_s_or_more(benchmark, warm_run):
    cells = [Cell("vgg", "vgg11", "ce", name) for name in ("one_cycle", "constant", "cosine")]
    beside(benchmark, warm_run, "quick", bare_vgg, cells)


def test_a_warm_small_cell(benchmark, warm_run):
    cells = [Cell("regression", "linear", "mse", "cosine", seed=seed) for seed in range(30)]
    bare_linear(cells[0], 10)
    beside(benchmark, warm_run, "smoke", bare_linear, cells)
