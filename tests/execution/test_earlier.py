"""What an earlier experiment left in a run's folder is not taken for this one's."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from toy import Toy

from harness.axes.optimizers import OptimizerSpec
from harness.cell import Cell
from harness.results.store import Store
from harness.runs import Run

CELL = Cell("toy", "line", "mse", "cosine")


def record(folder, topic, said=None, **conditions):
    report = (lambda line: None) if said is None else said.append
    run = Run(folder, {"toy": topic}, "quick", report=report, **conditions)
    try:
        run.start([CELL])
        run.finish()
        return run.records[CELL]
    finally:
        run.close()


@dataclass(frozen=True)
class DiesOnce(Toy):
    """Kills the first process that receives it, before anything is trained."""

    lr: float = 0.5
    died: str = ""

    def base_optimizer(self, model):
        return OptimizerSpec("sgd", lr=self.lr)

    def __setstate__(self, state):
        self.__dict__.update(state)
        if self.died and not Path(self.died).exists():
            Path(self.died).touch()
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_retry_does_not_go_on_from_another_experiments_checkpoint(tmp_path):
    record(tmp_path / "run", DiesOnce(lr=1e-3))
    again = record(tmp_path / "run", DiesOnce(died=str(tmp_path / "died")), retries=1)
    alone = record(tmp_path / "alone", DiesOnce())
    assert (again.status, again.attempts) == ("done", 2)
    assert (again.metrics, again.curve) == (alone.metrics, alone.curve)


@pytest.mark.parametrize("misbehave", ["nan", "raise"])
def test_what_trains_no_more_has_no_final_checkpoint(tmp_path, misbehave):
    final = tmp_path / "checkpoints" / CELL.id / "final.pt"
    record(tmp_path, Toy())
    assert final.exists()
    assert record(tmp_path, Toy(misbehave)).status != "done"
    assert not final.exists()


@dataclass(frozen=True)
class Talkative(Toy):
    entries: int = 1_001

    def evaluate(self, networks, cell):
        told = {"per_class": {str(n): 0.0 for n in range(self.entries)}, "note": "kept"}
        return super().evaluate(networks, cell) | told


def test_what_a_record_cannot_hold_is_left_out_by_name_and_the_rest_is_kept(tmp_path):
    said = []
    found = record(tmp_path, Talkative(), said)
    assert found.status == "done" and found.metrics
    assert any(f"{CELL.id}: per_class is left out of its record: an object" in s for s in said)
    assert found.evaluation["note"] == "kept" and found.evaluation["per_class"].startswith("left")
    store = Store(tmp_path)
    assert [one.cell for one in store] == [CELL] and not store.set_aside
    said.clear()
    assert record(tmp_path, Talkative(), said) == found and said == []  # used again
    few = record(tmp_path / "few", Talkative(entries=1_000))
    assert len(few.evaluation["per_class"]) == 1_000
