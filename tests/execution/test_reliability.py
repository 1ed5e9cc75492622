"""kill -9 of the run, of a worker and of a rank: what was acknowledged stays, no process does."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
from processes import HANGS_S, ends, kill, kill_all, processes
from toy import Toy

from harness.cell import Budget, Cell
from harness.results.report import write_report
from harness.results.store import Store
from harness.runs import Run

pytestmark = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="finds processes as Linux does"
)

HERE = Path(__file__).parent
PATH = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]  # what drives and its toys
SEED = 0
KILLS = {"run": 6, "single": 7, "ddp": 7}
WRITER_KILLS = 16
CELLS = [
    Cell("toy", model, "mse", "cosine", parallel, seed)
    for model in Toy.models
    for parallel in ("single", "ddp")
    for seed in range(8)
]
WRITER = """
from itertools import count
from pathlib import Path
from harness.cell import Cell
from harness.results.record import Record
from harness.results.store import Store
store = Store(Path({folder!r}))
for number in count({first}):
    cell = Cell("toy", "line", "mse", "cosine", seed=number % 5)
    store.write(Record(cell, "f", "done", curve={{"step": [number] * 500}}))
    print(number, flush=True)
"""


class LongToy(Toy):
    """Steps enough that a kill finds a cell at work."""

    budgets: ClassVar[dict] = {"full": Budget(steps=300, batch_size=8, timeout_s=60)}


def drive(folder):
    """A process with all imported that forks a run for each seed it is sent.

    Standard output tells which process runs, who works on what, what is recorded and how the run
    ended. All else that is printed goes to standard error.
    """
    news = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(*words):
        print(*words, file=news, flush=True)

    for seed in sys.stdin:
        pid = os.fork()
        if pid == 0:
            tell("begins", os.getpid())
            run_cells(Path(folder), random.Random(int(seed)), tell)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        tell("ends", os.waitstatus_to_exitcode(status))


def run_cells(folder, rng, tell):
    run = Run(folder, {"toy": LongToy()}, "full", report=tell)
    run.start(CELLS)
    rng.shuffle(run.executor._waiting)
    while run.pump(rng.uniform(0, 0.04)):
        for gang in run.executor._gangs:
            tell("works", gang.task.cell.id, *(worker.process.pid for worker in gang.workers))
    run.close()


@contextlib.contextmanager
def started(code, temporary):
    """A Python process; what it starts is known by ``temporary``, its folder for such files."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"TMPDIR": temporary, "PYTHONPATH": os.pathsep.join(PATH)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(HANGS_S, kill_all, [temporary])
    watchdog.start()
    try:
        with process:
            yield process
    finally:
        watchdog.cancel()
        kill_all(temporary)


@dataclass
class Killer:
    """Calls runs and kills, as planned, at random moments.

    plan: what is still to be killed, the next one last: the ``run``, a worker of a ``single`` cell
    or a rank of a ``ddp`` cell. The last two count once the run says that a cell was lost by them.
    kept: each acknowledged cell's file as it was then. struck: the cell whose end is awaited.
    """

    folder: Path
    temporary: str
    driver: subprocess.Popen
    rng: random.Random
    plan: list[str]
    kept: dict[Path, bytes] = field(default_factory=dict)
    run: int = 0
    struck: str = ""
    patience: int = 0
    calls: int = 0
    strikes: int = 0
    lost: int = 0

    def call(self):
        """One call of the run, until it ends by our hand or its own: its exit code."""
        self.calls += 1
        print(self.calls, file=self.driver.stdin, flush=True)
        self.wait_for("")
        for line in self.driver.stdout:
            first, *words = line.split()
            if first == "begins":
                self.run = int(words[0])
            elif first == "works":
                self.at_work(*words)
            elif first == "ends":
                return self.ended(int(words[0]))
            else:
                self.acknowledged(*words[:2])
        raise AssertionError("the driver died")

    def wait_for(self, cell):
        self.struck = cell
        self.patience = self.rng.randrange(30)

    def at_work(self, cell, *members):
        if not self.plan or self.struck:
            return
        self.patience -= 1
        if self.patience >= 0:
            return
        if self.plan[-1] == "run":
            self.wait_for("the end")
            kill(self.run)
        elif self.plan[-1] == Cell.parse(cell).parallel:
            victim = int(self.rng.choice(members))
            if victim in processes(self.temporary):
                self.strikes += 1
                self.wait_for(cell)
                kill(victim)

    def acknowledged(self, name, status):
        cell = Cell.parse(name)
        store = Store(self.folder)
        if status == "done":
            self.kept[store.path(cell)] = store.path(cell).read_bytes()
        else:
            self.lost += 1
            assert status == "failed" and self.lost <= self.strikes
            assert "SIGKILL" in store.read(cell).reason
            self.hit(cell.parallel)
        if name == self.struck:
            self.wait_for("")

    def hit(self, victim):
        if self.plan and self.plan[-1] == victim:
            self.plan.pop()

    def ended(self, code):
        """Only the driver lives, all is as it was acknowledged, and all can be read."""
        if code != 0:
            assert (code, self.struck) == (-signal.SIGKILL, "the end")
            self.hit("run")
        while left := set(processes(self.temporary)) - {self.driver.pid}:
            for pid in left:
                assert ends(pid), Path(f"/proc/{pid}/cmdline").read_bytes()
        store = Store(self.folder)
        assert {record.status for record in store} <= {"done", "failed"}
        assert not store.set_aside
        assert {path: path.read_bytes() for path in self.kept} == self.kept
        return code


def test_kills_at_random_moments_lose_nothing_acknowledged(tmp_path):
    rng = random.Random(SEED)
    plan = [victim for victim, count in KILLS.items() for _ in range(count)]
    rng.shuffle(plan)
    code = f"from test_reliability import drive; drive({str(tmp_path)!r})"
    with (
        tempfile.TemporaryDirectory(prefix="kills-") as temporary,
        started(code, temporary) as driver,
    ):
        killer = Killer(tmp_path, temporary, driver, rng, plan)
        while plan:
            killer.call()
            assert killer.calls < len(CELLS), f"not killed in all these calls: {plan}"
        assert killer.call() == 0
    assert len(killer.kept) == len(CELLS)
    write_report(tmp_path)
    table = pd.read_csv(tmp_path / "cells.csv")
    assert sorted(table["id"]) == sorted(cell.id for cell in CELLS)
    assert set(table["status"]) == {"done"}


def test_a_writer_killed_at_random_moments_corrupts_no_record(tmp_path):
    rng = random.Random(SEED)
    store = Store(tmp_path)
    acknowledged = {}
    number = -1

    def leftovers():
        return list(store.cells.glob(".*.tmp"))

    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        for kills in range(WRITER_KILLS):
            moment = number + rng.randrange(1, 40)
            code = WRITER.format(folder=str(tmp_path), first=number + 1)
            with started(code, temporary) as writer:
                for line in writer.stdout:
                    number = int(line)
                    acknowledged[number % 5] = number
                    if number == moment:
                        before = leftovers()
                        while kills % 2 and writer.poll() is None and leftovers() == before:
                            pass
                        writer.kill()
            found = {record.cell.seed: record.curve["step"] for record in store}
            for seed, last in acknowledged.items():
                assert found[seed] in ([last] * 500, [number + 1] * 500)
    assert not store.set_aside
    assert leftovers(), "no kill found the writer at an open file"
