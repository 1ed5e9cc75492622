"""The Ray executor on a simulated cluster of three nodes, each on a loopback address of its own."""

import os
import sys

import pytest

ray = pytest.importorskip("ray", reason="the extra ray is not installed")
if sys.platform != "linux":
    pytest.skip("only Linux has loopback addresses for three nodes", allow_module_level=True)

sys.path.insert(0, os.path.dirname(__file__))
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table
from toy import Toy

from harness import checkpoint
from harness.cell import Budget, Cell, UsageError
from harness.execution.capacity import shortage
from harness.execution.cluster import ClusterExecutor
from harness.execution.local import LocalExecutor
from harness.execution.task import Task
from harness.topics.regression import Regression

BUDGET = Budget(steps=20, batch_size=8, timeout_s=60)
CELL = Cell("toy", "line", "mse", "cosine")
NODE = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 * 2**20, "include_dashboard": False}
TIMES = {"save_s", "load_s"}


@dataclass(frozen=True)
class Gated(Toy):
    """Its first step waits for a byte from the named pipe of its seed."""

    gates: str = ""

    def each_step(self, networks, cell, step):
        if step == 1:
            with open(Path(self.gates, str(cell.seed)), "rb", buffering=0) as gate:
                gate.read(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Three nodes of one CPU. Whatever they started is gone in the end."""
    folder = str(tmp_path_factory.mktemp("cluster"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        first = NODE | {
            "node_ip_address": "127.0.0.2",
            "_system_config": {
                "health_check_initial_delay_ms": 0,
                "health_check_period_ms": 300,
                "health_check_failure_threshold": 3,
            },
        }
        nodes = Cluster(initialize_head=True, head_node_args=first)
        for number in (3, 4):
            nodes.add_node(**NODE, node_ip_address=f"127.0.0.{number}")
        patch.setenv("RAY_ADDRESS", nodes.address)
        yield nodes
        nodes.shutdown()


@pytest.fixture(scope="module")
def executor(cluster):
    """One for all tests, so that its places are warm after the first."""
    found = ClusterExecutor([], lambda task, outcome: found.outcomes.update({task: outcome}))
    found.outcomes = {}
    yield found
    found.close()
    ray.shutdown()


def task(folder, topic=None, cell=CELL, **changes):
    ranks = 1 if cell.parallel == "single" else 2
    return Task(topic or Toy(), cell, replace(BUDGET, **changes), folder, world_size=ranks)


def run(executor, tasks):
    executor.add(tasks)
    while executor.pump():
        pass
    return [executor.outcomes[task] for task in tasks]


def locally(tasks, folder):
    outcomes = {}
    executor = LocalExecutor([], lambda task, outcome: outcomes.update({task.cell: outcome}))
    executor.add([replace(task, run=folder) for task in tasks])
    while executor.pump():
        pass
    executor.close()
    return [outcomes[task.cell] for task in tasks]


def content(outcome):
    """All but times and where code lies."""
    found = {name: value for name, value in outcome.items() if name not in ("cost", "traceback")}
    audit = found.get("checkpoint", {})
    return found | {"checkpoint": {n: v for n, v in audit.items() if n not in TIMES}}


def files(folder):
    return {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}


def the_same(tasks, outcomes, tmp_path):
    """As the local executor's: outcomes and what the checkpoints hold, bit for bit."""
    expected = locally(tasks, tmp_path / "local")
    assert [content(outcome) for outcome in outcomes] == [content(e) for e in expected]
    here, there = files(tmp_path / "ray"), files(tmp_path / "local")
    assert set(here) == set(there)
    for name in here:
        if name.endswith(".pt"):
            assert checkpoint.digest(checkpoint.load(here[name])) == checkpoint.digest(
                checkpoint.load(there[name])
            )


def test_cells_give_what_the_local_executor_gives(executor, tmp_path):
    folder = tmp_path / "ray"
    topic = Regression()
    tasks = [
        task(folder, cell=replace(CELL, parallel="ddp")),
        Task(topic, Cell("regression", "mlp", "mse", "cosine", "ddp"), BUDGET, folder, "cpu", 2),
        Task(topic, Cell("regression", "linear", "mse", "cosine"), BUDGET, folder),
        Task(topic, Cell("regression", "tree", "mse", "constant"), BUDGET, folder),
        task(folder, cell=replace(CELL, model="dropout")),
        task(folder, Toy("nan"), replace(CELL, seed=1)),
    ]
    outcomes = run(executor, tasks)
    assert {outcome["status"] for outcome in outcomes} == {"done", "diverged"}
    the_same(tasks, outcomes, tmp_path)
