"""Checks in this process: what they find in trainings of kinds that are easily misjudged."""

import os
import sysconfig
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import faults
import pytest
import torch

import harness
from harness.axes.losses import Form
from harness.axes.parallel import CONFIGURATIONS, Parallel
from harness.conformance import checks, devices, items, outside, ranks
from harness.conformance import subject as subjects
from harness.conformance.devices import _faked
from harness.conformance.finding import crashed, holds, line_of
from harness.conformance.learning import gradients
from harness.conformance.shards import shards
from harness.conformance.state import state
from harness.conformance.subject import chosen_cell, subject
from harness.conformance.trace import first_difference, trace
from harness.sources import is_librarys
from harness.trial import parity
from harness.trial.task import Task, training_of

CPU = torch.device("cpu")
VISIBLE = "CUDA_VISIBLE_DEVICES"


def task_of(kind, folder=Path()):
    topic = getattr(faults, kind)()
    return Task(topic, chosen_cell(topic), topic.budgets["quick"], folder)


def traced(kind):
    return trace(training_of(task_of(kind), CPU, 0), 2)


FOUND = [  # topic, check, status, words
    ("Slopes", state, "holds", "outputs too"),
    ("Slopes", shards, "holds", "the mean of its 2 halves' gradients"),
    ("SparseBag", state, "holds", "outputs too"),
    ("SparseBag", shards, "holds", "the mean of its 2 halves' gradients"),
    ("Penalty", shards, "does not apply", "cannot be told of learner, which draws in evaluation"),
    ("NoisyMean", shards, "does not apply", "cannot be told of learner, which draws in evaluation"),
    ("Dropout", shards, "does not apply", "; all else is a mean over samples"),
    ("NoisySum", shards, "fails", "learner's objective sums over the batch (faults.py:"),
    ("NoisySumAndSum", shards, "fails", "learner's objective sums over the batch (faults.py:"),
    (
        "NoisySumAndSum",
        shards,
        "fails",
        "other's gradient is 0.5 away from the mean of its halves'",
    ),
    ("GRU", _faked, "holds", "one device is kept in objective of learner, batches"),
    ("LSTM", _faked, "holds", "one device is kept in objective of learner, batches"),
    ("StateOnCPU", _faked, "fails", "objective of learner mixes the CPU and the GPU at faults.py:"),
    ("Unsimulated", _faked, "holds", "up to where it needs operator aten._use_cudnn_ctc_loss."),
    ("Slopes", _faked, "holds", "objective of learner up to where it needs gradients"),
    ("Target", gradients, "holds", "copied from time to time? target.first.weight, target.first"),
    ("TwoPlayersAndTarget", gradients, "holds", "copied from time to time? target.first.weight"),
    ("TwoPlayers", gradients, "fails", "no player moves head.weight, head.bias"),
    ("Sparsely", gradients, "holds", "8 parameters get one in 8 steps; reached by no sample yet? "),
    (
        "Densely",
        gradients,
        "holds",
        "yet? model.between.experts.2.weight, model.between.experts.2.",
    ),
]


@pytest.mark.parametrize(("kind", "check", "status", "text"), FOUND)
def test_what_is_found(kind, check, status, text, tmp_path):
    finding = check(task_of(kind, tmp_path), 0)
    assert (finding.status, text in finding.text) == (status, True), finding


@pytest.mark.parametrize("kind", ["Slopes", "SparseBag"])
def test_a_trace_holds_numbers_of_torch_func_and_of_sparse_gradients(kind):
    events = traced(kind)
    digests = [e.digests for e in events if e.kind in ("output", "loss", "gradient")]
    assert digests and all(len(one) == 64 for found in digests for one in found.values())
    assert first_difference(events, traced(kind)) is None


def test_a_layer_within_torch_func_is_named_that_differs():
    parting = first_difference(traced("NoisySlopes"), traced("NoisySlopes"))
    assert (parting.kind, parting.who) == ("output", "Noise (model.between)")


def test_first_steps_of_single_are_those_of_an_objective_with_torch_func():
    found = parity.first_steps(task_of("Slopes"), 0)
    assert len(found.losses) == 2 and (found.layers, found.objectives) == ((), ())


class Apart:
    """A subject whose ranks have a loss of their own."""

    def __init__(self, kind):
        self.task = task_of(kind)
        self.alone = parity.FirstSteps([1.0, 1.0], [torch.ones(2)])

    def call(self, function, ranks=1, configuration=""):
        if function is parity.first_steps:
            return parity.FirstSteps([1.0, 2.0], [torch.ones(2)])
        return function(self.task, 0)


class Unaveraged(Parallel):
    name = "unaveraged"

    def wrap(self, network):
        return network


@pytest.mark.parametrize(
    ("kind", "configuration", "todo"),
    [
        ("ShardNorm", "ddp", "see shards above"),
        ("Clean", "ddp", "in buffers alone"),
        ("Clean", "unaveraged", "let its wrap average gradients"),
    ],
)
def test_parity_points_to_shards_where_that_fails_alone(kind, configuration, todo, monkeypatch):
    monkeypatch.setitem(CONFIGURATIONS.own, "unaveraged", Unaveraged())
    finding = ranks.parity_of(configuration)(Apart(kind))
    assert (finding.status, todo in finding.todo) == ("fails", True), finding


def test_a_closed_file_of_arrays_is_not_looked_into():
    training = training_of(task_of("Archived"), CPU, 0)
    assert "faults.RNG (numpy.Generator)" in outside.hidden(training)


def test_what_torch_adds_to_an_optimizer_s_defaults_is_no_loss():
    training = training_of(task_of("LostVelocity"), CPU, 0)
    before = outside.hidden(training)
    (optimizer,) = training.optimizers.values()
    optimizer.defaults["added"] = True
    assert outside.changed(before, outside.hidden(training)) == []
    optimizer.velocity.append(1)
    assert outside.changed(before, outside.hidden(training)) == ["Heavy.velocity of learner"]


LIBRARYS = [
    "/home/me/.local/lib/python3.11/site-packages/lib/code.py",
    "/usr/lib/python3/dist-packages/lib/code.py",
    f"{sysconfig.get_paths()['stdlib']}/json/decoder.py",
    harness.__file__,
]


@pytest.mark.parametrize("file", LIBRARYS)
def test_a_library_s_line_is_not_the_project_s(file):
    assert is_librarys(file)
    trace = (
        "Traceback (most recent call last):\n"
        '  File "/home/me/mine.py", line 3, in objective\n'
        f'  File "{file}", line 5, in helper\n'
        "ValueError: no\n"
    )
    assert crashed(trace).text == "it raises ValueError: no (mine.py:3 in objective)"


def test_a_folder_beside_this_package_is_the_project_s():
    assert not is_librarys(f"{Path(harness.__file__).parent}_mine/code.py")


def squares(outputs, target):
    return (outputs[:, 0] - target).square().sum()


def test_an_objective_of_this_package_s_is_told_by_the_loss_that_it_closes_over(monkeypatch):
    topic = faults.supervised()
    own = Form("squares", 1, squares, decode=lambda outputs_NW: outputs_NW[:, 0])
    monkeypatch.setattr(type(topic), "_form", lambda self, cell: own)
    (player,) = topic.players(chosen_cell(topic))
    assert line_of(player.objective) == f"{Path(__file__).name}:{squares.__code__.co_firstlineno}"
    assert line_of(squares) == line_of(player.objective)


@pytest.mark.parametrize(
    ("kind", "operators", "status", "text"),
    [
        ("Clean", [], "holds", "it trains, evaluates and comes back on a GPU, 2 steps later too"),
        ("LostVelocity", [], "fails", "model.last.bias differ 2 steps after loading"),
        ("LostVelocity", ["cumsum"], "holds", "cumsum cannot be repeated bit for bit there"),
        ("Forgetful", ["cumsum"], "fails", "on a GPU, batches.position differs after loading"),
    ],
)
def test_on_a_gpu_what_comes_back_is_compared(kind, operators, status, text, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(devices, "unrepeatable", lambda: nullcontext(operators))
    finding = devices._on_gpu(task_of(kind, tmp_path), 0)
    assert (finding.status, text in finding.text) == (status, True), finding


# GPUs that are hidden ----------------------------------------------------------------------------


def seen(task=None, rank=0):
    return os.environ.get(VISIBLE)


class Elsewhere:
    """Another process, as a function sees it whose environment is this one's."""

    def call(self, function, task):
        return holds(f"{task.device} sees {seen()!r}")


@contextmanager
def elsewhere(fresh=False):
    yield Elsewhere()


@pytest.mark.parametrize("told", [None, "", "2,3"])
def test_a_check_hides_the_gpus_and_leaves_them_as_they_were(told, tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, "untouched")
    monkeypatch.delenv(VISIBLE) if told is None else monkeypatch.setenv(VISIBLE, told)
    monkeypatch.setattr(devices, "own_executor", elsewhere)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    topic = faults.Clean()
    look = {
        "none": checks.Check("none", lambda it: holds(f"{seen()!r}")),
        "theirs": checks.Check("theirs", devices.devices),
    }
    with subject(topic, chosen_cell(topic), tmp_path) as it:
        assert checks.run(look["none"], it).text == "''"
        assert checks.run(look["theirs"], it).text == f"cuda sees {told!r}"
    assert seen() == told


def test_where_a_fork_may_see_a_gpu_other_processes_are_begun(tmp_path, monkeypatch):
    begun = []

    @contextmanager
    def executor(fresh=False):
        begun.append(fresh)
        yield Elsewhere()

    monkeypatch.setattr(subjects, "own_executor", executor)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with ExitStack() as ending:
        config = SimpleNamespace(stash={}, add_cleanup=ending.callback)
        mark, source = SimpleNamespace(kwargs={}), subjects.Source("mine")
        it = items._subject(config, faults.Clean(), source, mark)
        for call in (it.call, it.call_afresh):
            found = checks.run(checks.Check("", lambda _, call=call: call(seen)), it)
            assert found.text == "cpu sees ''"
    assert begun == [True, True]
