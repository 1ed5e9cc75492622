"""Time populations against the same cells trained alone, and a whole matrix against processes.

``nox -s speed`` runs this on an idle machine. Steps are timed in turn, alone and together, so that
what else the machine does falls on both; ``gain`` is the median over rounds. ``share_of_peak`` is
of the fastest matrix product measured on this core: what a population can gain at most is one over
what the single training reaches of it.
"""

import os
import subprocess
import sys
import time
from itertools import product
from statistics import median

import pytest
import torch

from harness.axes import losses, schedules
from harness.cell import Cell
from harness.execution.local import LocalExecutor
from harness.runs import Run
from harness.topics.registry import registered_topics
from harness.training.loop import Training
from harness.training.population.population import Population
from harness.trial.flops import count

TOPICS = registered_topics()
MEMBERS = 32
ROUNDS = 5
FRESH = int(os.environ.get("DECATHLON_FRESH", "6"))  # cells of the matrix in fresh processes
SEEDS = int(os.environ.get("DECATHLON_SEEDS", "3"))  # of the matrix


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seconds(work, times):
    """Return the seconds that ``work()`` takes, a mean over ``times`` calls."""
    begun = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - begun) / times


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        *(("mlp", "mse"), ("mlp", "ce"), ("linear", "mse"), ("svr", "mse"), ("vae", "ce")),
        *(("dcgan", "hinge"), ("wgan_gp", "hinge"), ("style_gan", "hinge")),
    ],
)
def test_steps(model, loss):
    topic = next(topic for topic in TOPICS.values() if model in topic.models)
    cells = [Cell(topic.name, model, loss, "cosine", seed=seed) for seed in range(MEMBERS)]
    budget = topic.budget("full", model)
    alone = Training(topic, cells[0], budget)
    eager, compiled = (Population(topic, cells, budget) for _ in range(2))
    compile_s = seconds(compiled.compile, 1)
    flops = count(alone.advance)
    size = torch.randn(1024, 1024)
    times = {"alone": 500, "eager": 100, "compiled": 100}
    works = {"alone": alone.advance, "eager": eager.advance, "compiled": compiled.advance}
    if topic.generates:
        times = {"alone": 20, "eager": 2, "compiled": 2}
    found = {name: [] for name in (*works, "peak")}
    for number in range(ROUNDS + 1):
        for name, work in works.items():
            found[name].append(seconds(work, times[name] if number else 2))
        found["peak"].append(seconds(lambda: size @ size, 5))
    kept = {name: values[1:] for name, values in found.items()}
    gains = {
        name: median(MEMBERS * a / b for a, b in zip(kept["alone"], kept[name], strict=True))
        for name in ("eager", "compiled")
    }
    peak = 2 * 1024**3 / min(kept["peak"])
    print(
        {"model": model, "loss": loss, "members": MEMBERS, "compile_s": round(compile_s, 1)}
        | {f"{name}_step_ms": round(1e3 * median(kept[name]), 3) for name in works}
        | {f"gain_{name}": round(gain, 2) for name, gain in gains.items()}
        | {"mflops_a_step": round(flops / 1e6, 2), "peak_gflops": round(peak / 1e9, 1)}
        | {"alone_share_of_peak": round(flops / min(kept["alone"]) / peak, 3)}
        | {"eager_share_of_peak": round(MEMBERS * flops / min(kept["eager"]) / peak, 3)}
    )


def trained(folder, cells, **options):
    """Train cells through the executor on one core: seconds per cell, and the records."""
    run = Run(folder, TOPICS, "full", rerun=True, report=lambda line: None, **options)
    run.executor = LocalExecutor(cores=1)
    try:
        run.start([Cell("regression", "linear", "mse", "cosine", seed=99)])
        run.finish()
        begun = time.perf_counter()
        run.start(cells)
        run.finish()
        return (time.perf_counter() - begun) / len(cells), [run.records[cell] for cell in cells]
    finally:
        run.close()


def test_cells_of_the_mlp_on_one_core(tmp_path):
    """Time whole cells, alone and in populations: trained, saved, audited, evaluated, written.

    The compiled population's time has its compilation in it, from the cache that the one before
    left.
    """
    cells = [Cell("regression", "mlp", "mse", "cosine", seed=seed) for seed in range(MEMBERS)]
    trained(tmp_path / "first", cells, compile=True)
    ways = {"sequential": {"population": 1}, "eager": {}, "compiled": {"compile": True}}
    found = {name: [] for name in ways}
    for number in range(3):
        for name, options in ways.items():
            some = cells[:6] if name == "sequential" else cells
            cell_s, records = trained(tmp_path / f"{name}{number}", some, **options)
            found[name].append(cell_s)
            assert {record.status for record in records} == {"done"}
            assert {r.population for r in records} == {1 if name == "sequential" else MEMBERS}
    alone = found["sequential"]
    print(
        {f"{name}_cells_per_s": round(1 / median(values), 2) for name, values in found.items()}
        | {
            f"gain_{name}": round(median(a / b for a, b in zip(alone, found[name], strict=True)), 2)
            for name in ("eager", "compiled")
        }
    )


def test_the_whole_matrix(tmp_path):
    """Time ``full`` for mlp, linear and svr on all cores against a fresh process per cell.

    The fresh side is a sample from over the matrix, one after the other on the whole machine.
    """
    models = ("mlp", "linear", "svr")
    axes = (models, losses.FAMILIES, schedules.NAMES, range(SEEDS))
    cells = [Cell("regression", m, loss, name, seed=seed) for m, loss, name, seed in product(*axes)]
    run = Run(tmp_path, TOPICS, "full", report=lambda line: print(line) if "by one" in line else 0)
    begun = time.perf_counter()
    run.start(cells)
    run.finish()
    harness_s = (time.perf_counter() - begun) / len(cells)
    run.close()
    assert {run.records[cell].status for cell in cells} <= {"done", "diverged"}
    together = sum(run.records[cell].population > 1 for cell in cells)
    fresh = []
    for cell in cells[len(cells) // (2 * FRESH) :: len(cells) // FRESH][:FRESH]:
        command = [sys.executable, "-m", "harness", "replay", cell.id, "--profile", "full"]
        begun = time.perf_counter()
        subprocess.run(
            [*command, "--run-dir", str(tmp_path / "none")], check=True, stdout=subprocess.DEVNULL
        )
        fresh.append(time.perf_counter() - begun)
    fresh_s = sum(fresh) / len(fresh)
    print(
        {"cells": len(cells), "in_populations": together, "cores": os.cpu_count()}
        | {"harness_cells_per_min": round(60 / harness_s, 1)}
        | {"fresh_cells": len(fresh), "fresh_cells_per_min": round(60 / fresh_s, 2)}
        | {"gain": round(fresh_s / harness_s, 1)}
    )
