"""The local executor gives out GPUs: which tasks start, and on which."""

import os
from dataclasses import replace

import pytest
import torch
from toy import BUDGET, Toy

from harness.cell import Cell, UsageError
from harness.cli import main
from harness.conditions import BESIDE
from harness.execution import torchrun
from harness.execution.kinds import executor_class
from harness.execution.local import Gang, LocalExecutor
from harness.execution.pool import WorkerPool, kill
from harness.execution.process import Returned
from harness.race.blocks import Clock
from harness.runs import Run
from harness.topics import VGG, Regression
from harness.trial import cost
from harness.trial.task import Task

CELL = Cell("toy", "line", "mse", "cosine")


@pytest.fixture
def starts(monkeypatch, tmp_path):
    """Return what an executor starts of tasks, by its GPUs, on a machine with so many; none end."""

    def submit(tasks, gpus, per_gpu=1, cores=16):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        executor = LocalExecutor(cores, per_gpu=per_gpu)
        monkeypatch.setattr(executor, "_listen", lambda timeout_s: None)

        def start(task, role, function, given):
            workers = [None] * task.world_size
            executor._gangs.append(Gang(task, role, 0.0, tmp_path, workers, given))

        monkeypatch.setattr(executor, "_start", start)
        executor.submit(tasks)
        executor.pump(0)
        found = [gang.gpus for gang in executor._gangs]
        executor._gangs.clear()
        executor.close()
        return found

    return submit


def tasks(tmp_path, count, device="cuda", **changes):
    every = (replace(CELL, seed=seed, **changes) for seed in range(count))
    ranks = 1 if changes.get("parallel", "single") in ("single", "dp") else 2
    return [Task(Toy(), cell, BUDGET, tmp_path, device, ranks) for cell in every]


def test_all_gpus_are_used_one_training_each(starts, tmp_path):
    assert starts(tasks(tmp_path, 10), gpus=8) == [(gpu,) for gpu in range(8)]


def test_several_share_a_gpu_where_they_may_the_least_busy_first(starts, tmp_path):
    found = starts(tasks(tmp_path, 10), gpus=2, per_gpu=3)
    assert found == [(0,), (1,), (0,), (1,), (0,), (1,)]


def test_each_rank_has_a_gpu_of_its_own_if_there_are_as_many(starts, tmp_path):
    pairs = tasks(tmp_path, 3, parallel="ddp")
    assert starts(pairs, gpus=4) == [(0, 1), (2, 3)]
    assert starts(pairs, gpus=1) == [(0,)]
    assert starts(tasks(tmp_path, 2, parallel="dp"), gpus=4) == [(0, 1, 2, 3)]


def test_dp_waits_until_all_have_room_and_keeps_their_order(starts, tmp_path):
    cell = replace(CELL, parallel="dp")
    dp = Task(Toy(), cell, BUDGET, tmp_path, "cuda")
    assert starts([*tasks(tmp_path, 1), dp], gpus=2) == [(0,)]
    assert starts([*tasks(tmp_path, 1), dp], gpus=2, per_gpu=2) == [(0,), (0, 1)]


def test_what_needs_no_gpu_does_not_wait_for_one(starts, tmp_path):
    both = [*tasks(tmp_path, 3), *tasks(tmp_path, 2, "cpu")]
    assert starts(both, gpus=1) == [(0,), (), ()]


def test_what_needs_a_gpu_does_not_wait_for_what_needs_none(starts, tmp_path):
    both = [*tasks(tmp_path, 3, "cpu"), *tasks(tmp_path, 3)]
    assert starts(both, gpus=1, cores=3) == [(0,), (), ()]
    pair = tasks(tmp_path, 1, parallel="ddp")
    assert starts([*tasks(tmp_path, 1), *pair, *tasks(tmp_path, 1)], gpus=2) == [(0,)]


def test_ranks_on_the_cpu_are_not_kept_from_their_cores_by_what_needs_a_gpu(starts, tmp_path):
    pairs = tasks(tmp_path, 2, "cpu", parallel="ddp")
    both = [*pairs, *tasks(tmp_path, 3), *tasks(tmp_path, 3, "cpu")]
    assert starts(both, gpus=1, cores=2) == [()]
    assert starts(both, gpus=1, cores=4) == [(), ()]
    assert starts(both, gpus=1, cores=6) == [(), (), (0,), ()]


def answered(worker):
    worker.answer = Returned(None)
    return worker


def test_a_process_stays_on_its_gpu_or_sees_none_and_ends_when_no_gpu_is_wanted():
    pool = WorkerPool()
    try:
        first = pool.take("train", gpu=1)
        pool.give_back("train", [answered(first)])
        other = pool.take("train", gpu=0)
        assert other is not first and (first.gpu, other.gpu) == (1, 0)
        assert pool.take("train", gpu=1) is first
        pool.give_back("train", [first])
        beside = pool.take("train")
        assert beside not in (first, other)
        pool.give_back("train", [answered(beside)])
        pool.end_idle()
        assert pool.take("train") is beside and not first.process.is_alive()
        kill([other, beside])
    finally:
        pool.close()


def seen(task, rank):
    return os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize("then", ["0,1", None])
def test_a_process_sees_the_gpus_of_now_not_of_when_its_server_began(tmp_path, monkeypatch, then):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    executor = LocalExecutor()
    task = Task(Toy(), CELL, BUDGET, tmp_path)
    try:
        assert executor.call(seen, task) == ""
        if then is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", then)
        assert executor.call(seen, task) == ""
        monkeypatch.setattr(executor, "_gpus", lambda task: (0,))
        assert executor.call(seen, task) == then
    finally:
        executor.close()


def test_never_more_processes_than_cores_whatever_the_gpus(starts, tmp_path):
    assert len(starts(tasks(tmp_path, 10), gpus=8, cores=3)) == 3


def test_tasks_on_the_cpu_take_none(starts, tmp_path):
    assert starts(tasks(tmp_path, 3, "cpu"), gpus=1) == [(), (), ()]


@pytest.fixture
def two_gpus(monkeypatch):
    """PyTorch says that it sees two GPUs, beside 16 cores."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a GPU")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    monkeypatch.setattr(cost, "cores", lambda: 16)


def test_a_rank_of_torchrun_has_a_gpu(two_gpus, tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(torchrun, "ranks", lambda: 2)
    monkeypatch.setattr(torchrun, "is_first", lambda: False)
    monkeypatch.setattr(torchrun, "train", taken.append)
    told = ["train", "regression/linear-mse-cosine-ddp-s0", "--profile", "smoke"]
    told += ["--run-dir", str(tmp_path), "--accumulate", "2"]
    assert main(told) == 0
    assert [task.device for task in taken] == ["cuda"]
    monkeypatch.setattr(torchrun, "ranks", lambda: 4)
    monkeypatch.setattr(Run, "task", lambda run, cell: run.command(cell))
    assert main(told) == 0
    assert taken[1].endswith(" --world-size 4 --accumulate 2 --device cuda")


def test_blocks_of_a_race_beside_gpus_are_planned_for_the_cores(two_gpus, tmp_path):
    topics = {"regression": Regression(), "vgg": VGG()}
    run = Run(tmp_path, topics, "race")
    arms = [Cell("regression", "linear", "mse", "cosine"), Cell("vgg", "vgg11", "ce", "cosine")]
    beside, there = (Clock(run, 10, [arm]) for arm in arms)
    assert beside.predict(arms[:1]) == run.predict(arms[0]) / 16
    assert there.predict(arms[1:]) == run.predict(arms[1]) / 2


def test_what_a_gpu_makes_slower_takes_none_unless_one_is_asked_for(
    two_gpus, tmp_path, monkeypatch
):
    topics = {"regression": Regression(), "vgg": VGG()}
    linear, tree = (Cell("regression", m, "mse", "constant") for m in ("linear", "tree"))
    deep = Cell("vgg", "vgg11", "ce", "constant")
    run = Run(tmp_path, topics, "smoke", per_gpu=3)
    assert [run.task(cell).device for cell in (linear, tree, deep)] == ["cpu", "cpu", "cuda"]
    assert [run.environment_of(cell)["device"] for cell in (linear, deep)] == ["cpu", "a GPU"]
    assert [run.at_once(cell) for cell in (linear, deep)] == [16, 6]
    assert run.environment["per_gpu"] == 3 and "per_gpu" not in run.environment_of(linear)
    asked = Run(tmp_path, topics, "smoke", device="cuda", per_gpu=3)
    assert [asked.task(cell).device for cell in (linear, tree, deep)] == ["cuda", "cpu", "cuda"]
    assert [run.beside(cell) for cell in (linear, tree, deep)] == [True, False, False]
    assert not asked.beside(linear)
    assert run.fingerprint(linear) != asked.fingerprint(linear)
    assert run.fingerprint(deep) == asked.fingerprint(deep)
    for executor in ("ray", "torchrun"):  # they give each rank a GPU
        elsewhere = Run(tmp_path, topics, "smoke", executor_kind=executor)
        assert elsewhere.task(linear).device == "cuda"
        assert elsewhere.command(linear).endswith(" --device cuda")  # for a replay here
        assert "--device" not in elsewhere.command(deep)
    assert "--device" not in run.command(linear)
    tf32 = replace(linear, precision="tf32")
    assert run.skip_reason(tf32) == f"it needs a GPU, and linear is {BESIDE}"
    assert "trained on the CPU" not in str(run.skip_reason(replace(tree, precision="tf32")))
    assert asked.skip_reason(tf32) is run.skip_reason(replace(deep, precision="tf32")) is None
    on_cpu = Run(tmp_path, topics, "smoke", device="cpu")
    assert on_cpu.environment["device"] == "cpu" and "per_gpu" not in on_cpu.environment
    fsdp = Cell("regression", "linear", "mse", "cosine", "fsdp")
    wide = Run(tmp_path, topics, "smoke", world_size=4, device="cuda")
    assert "needs a GPU for each of its 4 ranks: there are 2" in wide.skip_reason(fsdp)
    assert asked.skip_reason(fsdp) is None and run.skip_reason(fsdp) is None
    assert on_cpu.skip_reason(fsdp) is None
    assert on_cpu.at_once(deep) == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")  # torchrun: the others are on other machines
    assert wide.skip_reason(fsdp) is None
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.setattr(wide, "executor_kind", "ray")
    assert wide.skip_reason(fsdp) is None
    dp = replace(deep, parallel="dp")
    assert run.skip_reason(dp) is None
    assert "one process, to which ray gives one" in wide.skip_reason(dp)


def test_ray_gives_each_rank_a_whole_gpu():
    with pytest.raises(UsageError, match="per gpu 2 is for --executor local"):
        executor_class("ray", per_gpu=2)
