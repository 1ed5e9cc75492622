"""Measure a GPU: its peaks, each topic's step, vgg against a bare loop, populations.

``nox -s speed`` runs this alone on the machine; without a GPU it is skipped. ``pytest
experiments/speed_gpu.py -s`` prints a JSON line for each figure. ``mfu`` is the share of the
measured float32 peak that a step's products and convolutions reach, ``mfu_of_maker`` that of the
maker's figure, where it is known; energy is the GPU's own counter (NVML). ``default_ms`` is
without, ``repeatable_ms`` with what makes a GPU repeat itself; rounds of both take turns, and the
fastest counts. ``compile_s`` is what the first three compiled steps take.
"""

import contextlib
import dataclasses
import json
import time
from statistics import median

import pytest
import torch
from torch.nn import functional as F

from harness.axes import precision
from harness.cell import PRECISIONS, Cell
from harness.topics.registry import registered_topics
from harness.training.loop import Training
from harness.training.population.population import Population
from harness.trial import flops
from harness.trial.device import repeatable
from harness.trial.nvml import energy_counter

TOPICS = registered_topics()
MODELS = [(n, m) for n, topic in TOPICS.items() for m in topic.models if m not in topic.fits]
POPULATED = [(name, model) for name, topic in TOPICS.items() for model in topic.populates]
FIRST = {topic: model for topic, model in reversed(MODELS)}
LARGE = 1024  # a batch at which arithmetic counts
MEMBERS = 32
ROUNDS = 5
PAIRS = 25  # of the bare loop's rounds and the harness's
ENDLESS = 10**6  # steps, so that no schedule ends

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.fixture(scope="module")
def gpu():
    device = torch.device("cuda", torch.cuda.current_device())
    say(what="gpu", name=torch.cuda.get_device_name(), torch=torch.__version__)
    return device


def say(**figures):
    print(json.dumps(figures), flush=True)


def seconds(work, times):
    """Return the seconds that ``work()`` takes on the GPU, a mean over ``times`` calls."""
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(times):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - begun) / times


def training_of(topic, model, gpu, precision="fp32", **changes):
    cell = Cell(topic, model, *TOPICS[topic].recipe, precision=precision)
    budget = TOPICS[topic].budget("quick", model)
    budget = dataclasses.replace(budget, steps=ENDLESS, **changes)
    return Training(TOPICS[topic], cell, budget, gpu)


def test_peaks(gpu):
    with repeatable("cuda"):
        peaks = {"fp32": flops.measured_peak(gpu), "fp32_1024": flops.measured_peak(gpu, 1024)}
    peaks["bf16"] = flops.measured_peak(gpu, dtype=torch.bfloat16)
    with precision.step("tf32", gpu):
        peaks["tf32"] = flops.measured_peak(gpu)
    say(what="peaks", **{f"{name}_tflops": peak / 1e12 for name, peak in peaks.items()})
    if maker := flops.makers_peak(gpu):
        given = {name: peak for name, peak in maker._asdict().items() if peak}
        say(what="the maker's peaks", **{f"{name}_tflops": p / 1e12 for name, p in given.items()})
    assert peaks["fp32"] < peaks["bf16"]


@pytest.mark.parametrize(("topic", "model"), MODELS)
def test_step(topic, model, gpu):
    found: dict[str, list[float]] = {"default": [], "repeatable": []}
    times = 5 if topic == "rl" else 20
    for _ in range(ROUNDS):
        for name in found:
            with repeatable("cuda") if name == "repeatable" else contextlib.nullcontext():
                training = training_of(topic, model, gpu)
                seconds(training.advance, 5)
                torch.cuda.reset_peak_memory_stats()
                found[name].append(seconds(training.advance, times))
    memory_mb, joules = torch.cuda.max_memory_allocated() / 2**20, energy_counter([gpu])
    before = joules()
    with repeatable("cuda"):
        seconds(training.advance, 10 * times)
    step_s = min(found["repeatable"])
    figures = {
        **{f"{name}_ms": 1e3 * min(rounds) for name, rounds in found.items()},
        "samples_per_s": training.budget.batch_size / step_s,
        "peak_memory_mb": memory_mb,
    }
    if (spent_j := joules() - before) > 0:
        figures["joules_a_step"] = spent_j / (10 * times)
    flops_per_s = flops.count(training.advance) / step_s
    with repeatable("cuda"):
        figures["mfu"] = flops_per_s / flops.measured_peak(gpu)
    if maker := flops.makers_peak(gpu):
        figures["mfu_of_maker"] = flops_per_s / maker.fp32
    say(what="step", topic=topic, model=model, **figures)
    assert step_s > 0


PRECISELY = [(topic, model, {}) for topic, model in FIRST.items()]


@pytest.mark.parametrize(
    ("topic", "model", "changes"), [*PRECISELY, ("vgg", "vgg16", {"batch_size": LARGE})]
)
def test_precision(topic, model, changes, gpu):
    figures = {}
    with repeatable("cuda"):
        for name in PRECISIONS:
            training = training_of(topic, model, gpu, name, **changes)
            first_s = 3 * seconds(training.advance, 3)
            times = 5 if topic == "rl" else 20
            figures[f"{name}_ms"] = 1e3 * min(seconds(training.advance, times) for _ in "abc")
    about = {"model": model, "batch_size": training.budget.batch_size}
    say(what="precision", topic=topic, **about, **figures, compile_s=first_s)
    assert min(figures.values()) > 0


@pytest.mark.parametrize("model", ["vgg11", "vgg16"])
def test_against_a_bare_loop(model, gpu):
    ours = training_of("vgg", model, gpu)
    (player,) = ours.players
    network = ours.topic.networks(ours.cell)["model"].to(gpu)
    optimizer = torch.optim.Adam(network.parameters(), lr=player.optimizer.lr, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, player.optimizer.lr, total_steps=ENDLESS, cycle_momentum=False
    )
    x, y, size = *ours.batches.tensors.values(), ours.budget.batch_size
    order = torch.empty(0, dtype=torch.int64, device=gpu)

    def bare():
        nonlocal order
        if len(order) < size:
            order = torch.randperm(len(x), device=gpu)
        index, order = order[:size], order[size:]
        optimizer.zero_grad()
        F.cross_entropy(network(x[index]), y[index]).backward()
        optimizer.step()
        schedule.step()

    with repeatable("cuda"):
        for work in (bare, ours.advance):
            seconds(work, 10)
        pairs = [(seconds(ours.advance, 20), seconds(bare, 20)) for _ in range(PAIRS)]
    ratio = median(a / b for a, b in pairs)
    say(what="bare loop", model=model, ratio=ratio, bare_ms=1e3 * min(b for _, b in pairs))
    assert ratio > 0


@pytest.mark.parametrize(("topic", "model"), POPULATED)
def test_population(topic, model, gpu):
    """Time a step of one training and of MEMBERS as one, in turn."""
    with repeatable("cuda"):
        alone = training_of(topic, model, gpu)
        cells = [dataclasses.replace(alone.cell, seed=seed) for seed in range(MEMBERS)]
        together = Population(alone.topic, cells, alone.budget, gpu)
        for work in (alone.advance, together.advance):
            seconds(work, 3)
        pairs = [(seconds(alone.advance, 5), seconds(together.advance, 5)) for _ in range(ROUNDS)]
    gain = median(MEMBERS * one / all_together for one, all_together in pairs)
    alone_ms, together_ms = (1e3 * median(times) for times in zip(*pairs, strict=True))
    figures = {"members": MEMBERS, "gain": gain, "alone_ms": alone_ms, "together_ms": together_ms}
    say(what="population", topic=topic, model=model, **figures)
    assert gain > 0
