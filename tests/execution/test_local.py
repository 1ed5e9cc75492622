"""The local executor with real processes: parity, deadlines, kills, and nothing left behind."""

import signal
from dataclasses import replace

import pytest
import torch
from toy import Toy, run

from harness.axes import parallel
from harness.cell import Budget, Cell
from harness.execution.local import LocalExecutor
from harness.runs import Run
from harness.topics import Regression
from harness.trial.task import Task

BUDGET = Budget(steps=20, batch_size=8, timeout_s=60)
CELL = Cell("toy", "line", "mse", "cosine")


def task(tmp_path, topic=None, cell=CELL, **changes):
    ranks = parallel.ranks(cell.parallel, 2)
    folder = tmp_path / cell.id / getattr(topic, "misbehave", "none")
    return Task(topic or Toy(), cell, replace(BUDGET, **changes), folder, world_size=ranks)


def test_a_cell_is_trained_and_its_checkpoints_audited_elsewhere(tmp_path):
    (outcome,) = run(tmp_path, task(tmp_path))
    assert outcome.status == "done" and outcome.metrics["mse"] < outcome.baseline["mse"]
    audit = outcome.audited
    assert (audit.state_equal, audit.resume_equal, audit.metrics_equal) == (True,) * 3


def test_ddp_matches_single(tmp_path):
    (outcome,) = run(tmp_path, task(tmp_path, cell=replace(CELL, parallel="ddp")))
    assert outcome.status == "done" and outcome.parity.equal
    assert outcome.parity.difference < 1e-5 and outcome.audited.resume_equal


class SameShard(Toy):
    """A planted bug: what each rank sees does not depend on its rank."""

    def players(self, cell):
        (player,) = super().players(cell)
        x, y = self._data()

        def objective(networks, batch):
            mine = {"x": x[: len(batch["x"])], "y": y[: len(batch["y"])]}
            same = torch.distributed.is_initialized() and "DistributedData" in str(networks)
            return player.objective(networks, mine if same else batch)

        return [replace(player, objective=objective)]


def test_ranks_on_the_same_shard_fail_parity(tmp_path):
    cell = replace(CELL, parallel="ddp")
    (outcome,) = run(tmp_path, task(tmp_path, SameShard(), cell))
    assert outcome.status == "failed" and outcome.parity.equal is False


@pytest.mark.parametrize(
    ("misbehave", "status", "reason"),
    [
        ("raise", "failed", "a planted error"),
        ("die", "failed", "killed by SIGKILL"),
        ("crash", "failed", "rank 0 died: killed by SIGSEGV in string_at (__init__.py, line "),
        ("hang", "timeout", "no progress for 1.5 s: it is in objective"),
        ("nan", "diverged", "not finite at step 1"),
    ],
)
def test_a_bad_cell_costs_itself_only(tmp_path, misbehave, status, reason):
    bad = task(tmp_path, Toy(misbehave), timeout_s=1.5 if misbehave == "hang" else 60)
    good = task(tmp_path)
    outcomes = run(tmp_path, bad, good)
    assert outcomes[0].status == status and reason in outcomes[0].reason
    assert outcomes[1].status == "done"
    assert ("planted" in outcomes[0].traceback) == (misbehave == "raise")
    assert ("in objective" in outcomes[0].traceback) == (misbehave in ("raise", "crash", "hang"))


def test_a_dead_rank_is_named_and_no_process_is_left(tmp_path):
    cell = replace(CELL, parallel="ddp")
    (outcome,) = run(tmp_path, task(tmp_path, Toy("die"), cell))
    assert outcome.status == "failed" and "died: killed by SIGKILL" in outcome.reason


def test_the_rank_that_crashes_is_blamed_and_where_it_was_is_told(tmp_path):
    cell = replace(CELL, parallel="ddp")
    (outcome,) = run(tmp_path, task(tmp_path, Toy("crash", at=5, rank=1), cell))
    assert outcome.reason.startswith("rank 1 died: killed by SIGSEGV in string_at (")
    assert "toy.py" in outcome.traceback


def test_the_rank_that_raises_is_blamed_not_the_one_that_hears_of_it(tmp_path):
    cell = replace(CELL, parallel="ddp")
    (outcome,) = run(tmp_path, task(tmp_path, Toy("raise", at=5, rank=1), cell))
    assert outcome.status == "failed"
    assert outcome.reason == "rank 1: RuntimeError: a planted error"
    assert "in objective" in outcome.traceback


class Graceful(Toy):
    """Its ranks leave their group as they leave nccl's: together or never."""

    def players(self, cell):
        torch.distributed.destroy_process_group = signal.pause
        return super().players(cell)


def test_what_a_rank_raises_is_told_though_it_cannot_leave_its_group(tmp_path):
    cell = replace(CELL, parallel="ddp")
    (outcome,) = run(tmp_path, task(tmp_path, Graceful("raise", at=5, rank=1), cell))
    assert outcome.reason == "rank 1: RuntimeError: a planted error"


class Faulty(Toy):
    """Its GPU, after an error, raises at whatever is asked of it."""

    def evaluate(self, networks, cell):
        def fails():
            raise RuntimeError("CUDA error: device-side assert triggered")

        torch.cuda.is_initialized, torch.cuda.empty_cache = lambda: True, fails
        raise ValueError("a planted error")


def test_an_error_is_told_though_nothing_can_be_tidied_after_it(tmp_path):
    (outcome,) = run(tmp_path, task(tmp_path, Faulty()))
    assert outcome.reason == "ValueError: a planted error"


@pytest.mark.parametrize("rank", [0, 1])
def test_the_rank_that_hangs_is_blamed_not_the_one_that_waits(tmp_path, rank):
    cell = replace(CELL, parallel="ddp")
    topic = Toy("hang", at=5, rank=rank)
    (outcome,) = run(tmp_path, task(tmp_path, topic, cell, timeout_s=8))
    assert outcome.status == "timeout"
    assert outcome.reason.startswith("no progress for 8 s at step ")
    assert f": rank {rank} is in objective (toy.py, line" in outcome.reason
    assert "in advance" in outcome.traceback


@pytest.mark.parametrize("misbehave", ["die", "raise"])
@pytest.mark.parametrize("at", [5, 15])
@pytest.mark.parametrize("configuration", ["single", "ddp", "fsdp"])
def test_a_retried_cell_goes_on_from_its_checkpoint(tmp_path, configuration, at, misbehave):
    """It fails once, before or after its middle checkpoint: its record is as if it had not."""
    cell = replace(CELL, model="dropout", parallel=configuration)
    records = []
    for name, topic in (("whole", Toy()), ("broken", Toy(misbehave, at, once=str(tmp_path / "x")))):
        said = []
        one = Run(tmp_path / name, {"toy": topic}, "quick", retries=2, report=said.append)
        one.start([cell])
        one.finish()
        one.close()
        records.append(one.records[cell])
    whole, broken = records
    assert broken.status == "done", (broken.reason, broken.traceback, said)
    assert (whole.attempts, broken.attempts) == (1, 2)
    assert "attempt 2 of 3 follows" in said[0]
    assert (broken.metrics, broken.curve) == (whole.metrics, whole.curve)
    assert [broken.checkpoint[f] for f in ("state_equal", "resume_equal", "metrics_equal")] == [
        True,
        True,
        True,
    ]


def test_without_retries_a_cell_fails_alone(tmp_path):
    one = Run(tmp_path, {"toy": Toy("die", 5)}, "quick", retries=1, report=lambda line: None)
    one.start([CELL])
    one.finish()
    one.close()
    assert one.records[CELL].status == "failed" and one.records[CELL].attempts == 2


def test_closing_kills_what_still_runs(tmp_path):
    executor = LocalExecutor()
    executor.submit([task(tmp_path, Toy("hang"))])
    executor.pump(0.1)
    (worker,) = executor._gangs[0].workers
    executor.close()
    assert worker.process.exitcode in (-signal.SIGTERM, -signal.SIGKILL)


def test_a_warm_process_gives_the_numbers_of_a_fresh_one(tmp_path):
    target = task(tmp_path / "alone", cell=replace(CELL, model="dropout"))
    (alone,) = run(tmp_path, target)
    others = [task(tmp_path, cell=replace(CELL, seed=seed, loss="ce")) for seed in range(4)]
    after = run(tmp_path, *others, target)[-1]
    assert (after.metrics, after.curve) == (alone.metrics, alone.curve)


def test_what_is_queued_again_goes_first_in_the_place_of_what_it_replaces(tmp_path):
    first, second, third, fourth = (task(tmp_path, cell=replace(CELL, seed=n)) for n in range(4))
    executor = LocalExecutor()
    executor.submit([first, second, third])
    executor.requeue([fourth], instead_of=[second])
    assert executor.pending() == [fourth, first, third]
    executor.close()
    assert executor.pending() == []


def place(task, rank):
    assert torch.distributed.get_rank() == rank
    return rank, torch.distributed.get_world_size(), task.cell.id


def fails(task, rank):
    raise ValueError(f"a planted error on rank {rank}")


def test_a_call_gives_rank_0s_value_or_raises_the_reason(executor, tmp_path):
    ranked = task(tmp_path, cell=replace(CELL, parallel="ddp"))
    assert executor.call(place, ranked) == (0, 2, ranked.cell.id)
    with pytest.raises(RuntimeError, match="ValueError: a planted error on rank"):
        executor.call(fails, ranked)
    assert executor.call(place, ranked) == (0, 2, ranked.cell.id)
    executor.submit([ranked])
    with pytest.raises(RuntimeError, match="call waits for no other tasks"):
        executor.call(place, ranked)
    while executor.pending():
        executor.pump()


def test_a_run_may_start_more_cells_while_some_are_left(tmp_path):
    one = Run(tmp_path, {"toy": Toy()}, "quick", report=lambda line: None)
    first, later = [replace(CELL, seed=seed) for seed in range(4)], replace(CELL, seed=4)
    try:
        assert one.start(first) == "cells to train: 4; reused: 0 of 4; skipped: 0"
        assert one.start([later]) == "cells to train: 1; reused: 0 of 1; skipped: 0"
        one.finish()
    finally:
        one.close()
    assert {record.status for record in one.records.values()} == {"done"} and len(one.records) == 5


def test_a_run_of_several_topics_says_how_many_cells_each_has(tmp_path):
    """Of those that -k finds, some may not be meant: 'seg' is in multitask's models too."""
    other = replace(CELL, topic="other")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalExecutor, "submit", lambda self, tasks: None)
        one = Run(tmp_path, {"toy": Toy(), "other": Toy()}, "quick", report=lambda line: None)
        told = one.start([CELL, replace(CELL, seed=1), other])
        one.close()
    assert told == "cells to train: 3 (toy 2, other 1); reused: 0 of 3; skipped: 0"


def test_all_costs_in_time_are_known_of_an_estimator_too(tmp_path):
    tree = Cell("regression", "tree", "mse", "constant")
    (outcome,) = run(tmp_path, Task(Regression(), tree, BUDGET, tmp_path))
    assert list(outcome.cost) == ["wall_s", "train_s", "eval_s", "audit_s"]
    assert outcome.cost["audit_s"] == 0 < outcome.cost["train_s"] < outcome.cost["wall_s"]
