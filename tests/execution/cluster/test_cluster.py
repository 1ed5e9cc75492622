"""The Ray executor on a simulated cluster of three nodes, each on a loopback address of its own."""

import json
import multiprocessing
import os
import re
import select
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import brought
import pytest
import torch
from processes import ends, processes
from toy import Toy

from harness import checkpoint, race
from harness.axes import registry
from harness.cell import Budget, Cell, UsageError
from harness.checkpoint import estimators
from harness.execution.local import LocalExecutor
from harness.results import side_files
from harness.runs import Run
from harness.topics.regression import Regression
from harness.topics.supervised.supervised import Supervised
from harness.trial.task import Task

ray = pytest.importorskip("ray", reason="the extra ray is not installed")
cluster_utils = pytest.importorskip("ray.cluster_utils")
executors = pytest.importorskip("harness.execution.cluster.executor")
pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has loopback addresses for three nodes"
)

BUDGET = Budget(steps=20, batch_size=8, timeout_s=60)
CELL = Cell("toy", "line", "mse", "cosine")
NODE = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 * 2**20, "include_dashboard": False}
FIRST = {
    "node_ip_address": "127.0.0.2",
    "_system_config": {
        "health_check_period_ms": 500,
        "health_check_failure_threshold": 10,
        "worker_niceness": 0,
    },
}
TIMES = {"save_s", "load_s", "bytes"}  # an index of shards names the folder it was written to


@dataclass(frozen=True)
class Gated(Toy):
    """After its first step it tells one named pipe its seed and process, and waits for another."""

    pipes: str = ""

    def each_step(self, networks, cell, step, steps):
        if step == 1:
            Path(self.pipes, "begun").write_text(f"{cell.seed} {os.getpid()}\n")
            with open(Path(self.pipes, "go"), "rb", buffering=0) as go:
                go.read(1)


class Avenger(Toy):
    """Kills the actor it runs in, as an operator or a memory monitor might."""

    def each_step(self, networks, cell, step, steps):
        os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster(short_folder):
    """Three nodes of one CPU, and the folder for their temporary files. All ends in the end."""
    folder = short_folder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        nodes = cluster_utils.Cluster(initialize_head=True, head_node_args=NODE | FIRST)
        for number in (3, 4):
            nodes.add_node(**NODE, node_ip_address=f"127.0.0.{number}")
    yield nodes, folder
    started = processes(str(folder))
    nodes.shutdown()
    assert started and all(ends(pid) for pid in started)


@pytest.fixture(scope="module")
def executor(cluster):
    """One for all tests, so that its actors are warm after the first."""
    nodes, folder = cluster
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", nodes.address)
        found = executors.ClusterExecutor()
    yield found
    found.close()
    assert not ray.is_initialized()
    assert len(list(folder.glob("decathlon-*"))) <= 2  # an actor on a killed node, a killed actor


def task(folder, topic=None, cell=CELL, ranks=2, **changes):
    ranks = 1 if cell.parallel == "single" else ranks
    return Task(topic or Toy(), cell, replace(BUDGET, **changes), folder, world_size=ranks)


def run(executor, tasks):
    executor.submit(tasks)
    outcomes = rest(executor)
    return [outcomes[task.cell] for task in tasks]


def rest(executor):
    """The outcomes of all that is pending, by cell."""
    outcomes = {}
    while executor.pending():
        outcomes |= {task.cell: outcome for task, outcome in executor.pump()}
    return outcomes


def locally(tasks, folder):
    executor = LocalExecutor()
    try:
        return run(executor, [replace(task, run=folder) for task in tasks])
    finally:
        executor.close()


def content(outcome):
    """All but times, where code lies and which line of a loop hangs, as text: NaN is NaN there."""
    fields = outcome.record_fields()
    found = {name: value for name, value in fields.items() if name not in ("cost", "traceback")}
    audit = found["checkpoint"]
    found["checkpoint"] = {name: audit[name] for name in audit if name not in TIMES}
    return re.sub(r"line \d+", "line", json.dumps(found, sort_keys=True, indent=1))


def files(folder):
    return {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}


def saved(path):
    found = checkpoint.load(path)
    if "estimator" in found:  # an archive, with the time when it was made
        found["estimator"] = estimators.digest(estimators.loads(found["estimator"]))
    return checkpoint.digest(found)


def the_same(tasks, outcomes, tmp_path):
    """As the local executor's: outcomes and what the checkpoints hold, bit for bit."""
    expected = locally(tasks, tmp_path / "local")
    assert [content(outcome) for outcome in outcomes] == [content(e) for e in expected]
    here, there = files(tmp_path / "ray"), files(tmp_path / "local")
    assert set(here) == set(there)
    for name in here:
        if name.endswith("/rest.pt"):  # of a folder of shards
            assert saved(here[name].parent) == saved(there[name].parent)
        elif name.endswith(".pt"):
            assert saved(here[name]) == saved(there[name])


def test_an_address_where_no_cluster_is_is_refused_at_once(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UsageError, match="no Ray cluster at RAY_ADDRESS 127.0.0.1:1"):
        executors.ClusterExecutor()


def test_a_race_is_held_on_a_cluster(executor, tmp_path):
    cells = [replace(CELL, loss=loss) for loss in ("mse", "huber", "hinge")]
    held = Run(tmp_path, {"toy": Toy()}, "race", report=lambda line: None)
    held.executor, held.executor_kind = executor, "ray"
    race.hold(held, cells, 5)
    answers = side_files.study(tmp_path, "answers")
    assert len(answers) == 3 and answers["stopped"].str.len().all()
    assert answers["test"].notna().iloc[0]


def line():
    return torch.nn.Linear(3, 1)


def plane():
    return (x := torch.randn(100, 3)), x.sum(1)


def test_cells_give_what_the_local_executor_gives(executor, tmp_path):
    folder = tmp_path / "ray"
    topic = Regression()
    own = Supervised("mine", models={"line": line}, data=plane, task="regression")
    tasks = [
        task(folder, cell=replace(CELL, parallel="ddp")),
        Task(topic, Cell("regression", "mlp", "mse", "cosine", "fsdp"), BUDGET, folder, "cpu", 2),
        Task(topic, Cell("regression", "linear", "mse", "cosine"), BUDGET, folder),
        Task(topic, Cell("regression", "tree", "mse", "constant"), BUDGET, folder),
        task(folder, own, replace(CELL, topic="mine", parallel="ddp")),
        task(folder, cell=replace(CELL, model="dropout")),
        task(folder, Toy("nan"), replace(CELL, seed=1)),
    ]
    outcomes = run(executor, tasks)
    assert {outcome.status for outcome in outcomes} == {"done", "diverged"}
    the_same(tasks, outcomes, tmp_path)


def test_what_a_project_brings_trains_on_a_cluster(executor, tmp_path):
    folder, own = tmp_path / "ray", (brought.LogCosh(), brought.Restarts(), brought.Fp16())
    cells = [
        replace(CELL, loss="log_cosh", schedule="restarts"),
        replace(CELL, parallel="ddp_fp16"),
    ]
    tasks = [replace(task(folder, cell=cell), own=own) for cell in cells]
    before = registry.own()
    registry.take(own)
    try:
        outcomes = run(executor, tasks)
        assert [(outcome.status, outcome.reason) for outcome in outcomes] == [("done", "")] * 2
        the_same(tasks, outcomes, tmp_path)
    finally:
        registry.take(before)


def test_a_bad_cell_ends_as_it_does_locally(executor, cluster, tmp_path):
    folder = tmp_path / "ray"
    tasks = [
        task(folder, Toy("raise")),
        task(folder, Toy("die"), replace(CELL, seed=1)),
        task(folder, Toy("hang"), replace(CELL, seed=2), timeout_s=6),
    ]
    outcomes = run(executor, tasks)
    the_same(tasks, outcomes, tmp_path)
    assert [outcome.status for outcome in outcomes] == ["failed", "failed", "timeout"]
    assert "planted" in outcomes[0].traceback
    gang = replace(CELL, parallel="ddp")
    gangs = [task(folder, Toy("raise"), gang), task(folder, Toy("die"), replace(gang, seed=1))]
    raised, died = run(executor, gangs)
    assert raised.reason.partition(": ")[2] == "RuntimeError: a planted error"
    assert died.reason.endswith("died: killed by SIGKILL")
    left = {path.name.partition("-")[0] for path in cluster[1].glob("decathlon-*/*")}
    assert left <= {"stacks", "owner.lock"}  # of the warm processes, and the folder's


def size(task, rank):
    return rank, torch.distributed.get_world_size()


def fails(task, rank):
    raise ValueError("a planted error")


def visible(task, rank):
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_a_call_gives_rank_0s_value_or_raises_the_reason(executor, tmp_path):
    ranked = task(tmp_path, cell=replace(CELL, parallel="ddp"))
    assert executor.call(size, ranked) == (0, 2)
    with pytest.raises(RuntimeError, match="ValueError: a planted error"):
        executor.call(fails, task(tmp_path))
    assert not executor.pending()


def test_a_rank_sees_the_gpu_that_ray_gave_it(executor, cluster, tmp_path, monkeypatch):
    nodes, _ = cluster
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # a node may have those alone
    node = nodes.add_node(**NODE | {"num_gpus": 1}, node_ip_address="127.0.0.5")
    try:
        there = replace(task(tmp_path), device="cuda")
        assert executor.call(visible, there) == "0"
        assert executor.call(visible, task(tmp_path)) == ""
    finally:
        nodes.remove_node(node)


def test_what_the_cluster_cannot_run_is_refused_at_once(executor, tmp_path):
    gang = replace(CELL, parallel="ddp")
    with pytest.raises(UsageError) as refused:
        executor.submit([task(tmp_path), task(tmp_path, cell=gang, ranks=4)])
    assert str(refused.value) == (
        "toy/line-mse-cosine-ddp-s0 needs 4 x 1 CPU and 0 GPU; of the cluster's 3 nodes "
        "127.0.0.2 has 1 CPU and 0 GPU, 127.0.0.3 has 1 CPU and 0 GPU, "
        "127.0.0.4 has 1 CPU and 0 GPU; missing: 1 x 1 CPU and 0 GPU"
    )
    with pytest.raises(UsageError, match="missing: 1 x 1 CPU and 1 GPU"):
        executor.submit([replace(task(tmp_path), device="cuda")])
    assert not executor.pending()


def said(pipe):
    """The processes by seed that have begun since the last time."""
    if not select.select([pipe], [], [], 0)[0]:
        return {}
    return {int(seed): int(pid) for seed, pid in map(bytes.split, os.read(pipe, 999).splitlines())}


def test_a_node_is_killed_and_every_cell_finishes(executor, cluster, tmp_path):
    nodes, _ = cluster
    pipes = {name: tmp_path / name for name in ("begun", "go")}
    for path in pipes.values():
        os.mkfifo(path)
    begun, go = (os.open(path, os.O_RDWR) for path in pipes.values())
    gated = [
        task(tmp_path / "ray", Gated(pipes=str(tmp_path)), replace(CELL, seed=seed))
        for seed in range(3)
    ]
    after = task(tmp_path / "ray", cell=replace(CELL, parallel="ddp", seed=3))
    impossible = task(tmp_path / "ray", cell=replace(CELL, parallel="ddp", seed=4), ranks=3)
    executor.submit([*gated, after, impossible])
    at_work = {}
    while len(at_work) < 3:
        assert not executor.pump(0.1) and not executor._losses
        at_work |= said(begun)
    meet = {g.task.cell.seed: g.slots[0].actor.meet.remote() for g in executor._gangs}
    addresses = {seed: ray.get(address) for seed, address in meet.items()}
    victim = next(iter(nodes.worker_nodes))
    (lost_seed,) = (s for s, address in addresses.items() if victim.node_ip_address in address)
    nodes.remove_node(victim, allow_graceful=False)
    assert ends(at_work[lost_seed])
    os.write(go, b"g" * 64)
    outcomes = rest(executor)
    assert list(said(begun)) == [lost_seed]
    cells = [*gated, after]
    the_same(cells, [outcomes[task.cell] for task in cells], tmp_path)
    lost = outcomes[impossible.cell]
    assert lost.status == "failed" and "missing: 1 x 1 CPU" in lost.reason
    os.close(begun)
    os.close(go)


def test_a_cell_whose_actors_die_is_given_up(executor, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "TRIES", 1)
    (outcome,) = run(executor, [task(tmp_path, Avenger(), replace(CELL, seed=9))])
    assert outcome.status == "failed" and outcome.reason.endswith("(1 times)")
