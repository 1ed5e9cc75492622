"""A race that is given again, or whose first blocks came to nothing: on simulated trainings."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest

from harness.cell import Cell, Status
from harness.race import answers, course
from harness.results.record import Record

TOPIC = {"name": "own", "directions": {"acc": "max"}, "recipe": ("l0", "cosine"), "fits": ()}
CELLS = [Cell("own", "m", f"l{number}", "cosine") for number in range(8)]
SECONDS = 10.0


class Store(dict):
    """The records of a folder, by cell."""

    read = dict.get

    def __iter__(self):
        return iter(self.values())


class Simulated:
    """A run whose trainings take ten seconds of a clock that only they move, two at once.

    gap_s: what passes after each pair, which no record tells.
    """

    places, rerun, gap_s = 2, False, 0.0

    def __init__(self, store, status=lambda cell: Status.DONE, margin=0.002, validates=True):
        self.store, self.status, self.validates = store, status, validates
        own = SimpleNamespace(margin=margin, judged_by=lambda model: ("acc",), **TOPIC)
        self.topics, self.records, self.trained, self.said = {"own": own}, {}, [], []
        self.topic, self.report = lambda cell: own, self.said.append
        self.now = 0.0

    def skip_reason(self, cell):
        return None

    def at_once(self, cell):
        return self.places

    def fingerprint(self, cell):
        return "f"

    def predict(self, cell):
        return SECONDS

    def done(self, cell):
        record = self.store.read(cell)
        same = record is not None and record.fingerprint == self.fingerprint(cell)
        return record if same and record.status in (Status.DONE, Status.DIVERGED) else None

    def start(self, cells):
        for cell in cells:
            if self.done(cell) is None:
                self.store[cell] = self.train(cell)
                self.trained.append(cell)
                self.now += (SECONDS + self.gap_s) / self.places
            self.records[cell] = self.store[cell]

    def finish(self):
        pass

    def train(self, cell):
        luck = np.random.default_rng(int(hashlib.md5(cell.id.encode()).hexdigest()[:8], 16))
        values = {"acc": 0.9 - 0.002 * int(cell.loss[1:]) + 0.01 * luck.normal()}
        status = self.status(cell)
        ended = values if status == Status.DONE else {}
        told = {"metrics": ended, "validation": ended if self.validates else {}}
        told |= {"baseline": {"acc": 0.1}, "directions": {"acc": "max"}}
        told |= {"cost": {"wall_s": SECONDS, "train_s": SECONDS}}
        return Record(cell, self.fingerprint(cell), status, **told)


@pytest.fixture
def held(monkeypatch):
    def hold(run, cells=CELLS, minutes=20):
        kept = []
        monkeypatch.setattr("harness.race.blocks.time.monotonic", lambda: run.now)
        course.hold(run, cells, minutes, kept.append)
        return kept[-1]

    return hold


def test_a_finished_race_given_again_trains_nothing_and_says_the_same(held):
    store = Store()
    first = Simulated(store)
    ended = held(first)
    assert ended.stopped.startswith("the time was over") and first.now <= 20 * 60
    again = Simulated(store)
    assert answers.rows(held(again)) == answers.rows(ended) and again.trained == []


def test_seconds_that_no_record_tells_give_a_finished_race_no_more_blocks(held):
    store = Store()
    first, again = Simulated(store), Simulated(store)
    first.gap_s = again.gap_s = 1.0
    ended, found = held(first), held(again)
    assert found.race.standings == ended.race.standings


def test_a_finished_race_goes_on_when_it_is_given_more_minutes(held):
    store = Store()
    blocks = held(Simulated(store)).race.blocks
    longer = held(Simulated(store), minutes=40)
    assert longer.race.blocks > blocks
    assert len(store) * SECONDS / Simulated.places <= 40 * 60


@pytest.mark.parametrize("status", [Status.FAILED, Status.TIMEOUT])
def test_what_failed_is_not_tried_again_by_a_race_that_goes_on(held, status):
    def fails(cell):
        return status if cell.loss in ("l1", "l3") and cell.seed % 3 == 1 else Status.DONE

    store = Store()
    ended = held(Simulated(store, fails))
    again = Simulated(store)
    assert answers.rows(held(again)) == answers.rows(ended) and again.trained == []
    failed = [record for record in again.records.values() if record.status == status]
    assert failed and {record.cell.loss for record in failed} == {"l1", "l3"}


def test_what_another_fingerprint_left_is_trained_and_costs_no_time(held):
    store = Store()
    first, again = Simulated(store), Simulated(store)
    held(first)
    again.fingerprint = lambda cell: "other"
    held(again)
    assert again.trained == first.trained


def ruined(cell):
    return Status.DIVERGED if cell.seed < 2 else Status.DONE


def test_whether_there_is_validation_data_is_seen_by_what_trained(held):
    """Of three seeds only the last one's trainings end."""
    run = Simulated(Store(), ruined)
    ended = held(run, CELLS[:2])
    assert ended.measure.half == "validation" and not any("no validation" in s for s in run.said)
    assert [record.cell.seed for record in ended.records["m-l0-cosine"][:3]] == [0, 1, 2]
    bare = Simulated(Store(), ruined, validates=False)
    assert held(bare, CELLS[:2]).measure.half == "metrics"
    assert any("no validation data" in line for line in bare.said)


def test_the_margin_is_a_share_of_what_the_first_block_that_trained_wins(held):
    ended = held(Simulated(Store(), ruined, margin=None), CELLS[:3])
    best = max(records[2].validation["acc"] for records in ended.records.values())
    assert ended.race.margin == pytest.approx(course.MARGIN * (best - 0.1))


def test_a_race_of_which_nothing_trains_ends_in_time_and_calls_no_arms_tied(held):
    run = Simulated(Store(), lambda cell: Status.DIVERGED, margin=None)
    ended = held(run, CELLS[:2], minutes=10)
    assert ended.stopped.startswith("the time was over") and run.now <= 600
    rows = answers.rows(ended)
    assert [row["verdict"] for row in rows] == ["leads", "undecided"]
    assert not any("no validation" in line for line in run.said)
