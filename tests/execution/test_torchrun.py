"""torchrun starts a cell on two nodes of this machine: the same numbers as on one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from harness.cell import Cell
from harness.results.store import Store
from harness.runs import Run
from harness.topics.registry import registered_topics

TESTS = Path(__file__).parent.parent
CONFTEST = f"""{(TESTS / "toy.py").read_text()}
{(TESTS / "brought.py").read_text()}

def pytest_decathlon_topics():
    return [Toy()]

def pytest_decathlon_losses():
    return [LogCosh()]

def pytest_decathlon_schedules():
    return [Restarts()]

def pytest_decathlon_parallel():
    return [Fp16()]
"""
CELL = Cell("regression", "mlp", "ce", "cosine", "fsdp")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def node(number, port, folder, cell, where=None):
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"),
        *("--node-rank", str(number), "--master-addr", "127.0.0.1", "--master-port", str(port)),
        *("-m", "harness", "train", cell, "--profile", "smoke", "--run-dir", str(folder)),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        env=environment,
        cwd=where,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_nodes_give_one_nodes_numbers(tmp_path):
    port = free_port()
    nodes = [node(number, port, tmp_path / "two", CELL.id) for number in range(2)]
    said = [process.communicate(timeout=300)[0] for process in nodes]
    assert [process.returncode for process in nodes] == [0, 0], said
    run = Run(tmp_path / "one", registered_topics(), "smoke", report=lambda line: None)
    run.start([CELL])
    run.finish()
    run.close()
    one, two = run.records[CELL], Store(tmp_path / "two").read(CELL)
    assert two.status == "done" and two.world_size == 2
    assert (two.metrics, two.curve, two.baseline) == (one.metrics, one.curve, one.baseline)
    assert two.parity == one.parity and two.fingerprint == one.fingerprint
    flags = ("state_equal", "resume_equal", "metrics_equal")
    assert [two.checkpoint[flag] for flag in flags] == [True] * 3


def test_train_without_torchrun_is_one_line(tmp_path, capsys):
    from harness import cli

    assert cli.main(["train", CELL.id, "--run-dir", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "under torchrun" in line


def test_what_a_project_brings_trains_under_torchrun(tmp_path):
    """The topic, the loss and the configuration are all a conftest's."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    run = tmp_path / "run"
    run.mkdir()
    (run / "environment.json").write_text(json.dumps({"project": [str(tmp_path)]}))
    cell, port = "toy/line-log_cosh-restarts-ddp_fp16-s0", free_port()
    nodes = [node(number, port, run, cell, tmp_path) for number in range(2)]
    said = [process.communicate(timeout=300)[0] for process in nodes]
    assert [process.returncode for process in nodes] == [0, 0], said
    record = Store(run).read(Cell.parse(cell))
    assert record.status == "done" and record.parity["reason"] == "gradients travel in float16"
    assert record.checkpoint["resume_equal"] and record.checkpoint["metrics_equal"]
