"""Train a race's blocks with a run, within the minutes that there are, and take their values."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from harness.cell import Cell, Status
from harness.results.record import Record
from harness.runs import Run
from harness.trial import cost


def arm_of(cell: Cell) -> str:
    """Return the name of a cell's arm, its recipe without topic and seed: ``vgg11-ce-cosine``."""
    return cell.id.split("/")[1].rsplit("-s", 1)[0].replace("-single", "", 1)


class Clock:
    """Knows how much of a race's minutes is left, and how long trainings will take.

    arms: the race's cells, one of each arm; what earlier calls trained of them, under whatever
    seed, counts from the start, with the seconds that its records tell.
    """

    def __init__(self, run: Run, minutes: float, arms: Collection[Cell] = ()) -> None:
        self._run = run
        self._places = min(map(run.at_once, arms), default=cost.cores())
        self._at_once = float(self._places)  # trainings, until it is measured
        self._trained_s = self._waited_s = 0.0
        self.given_s = 60 * minutes
        self._end = time.monotonic() + self.given_s
        own = set(block(arms, 0))
        there = [r for r in run.store if replace(r.cell, seed=0) in own] if own else []
        self._end -= sum(_seconds(record) for record in there if self._holds(record)) / self._places

    def stored(self, cell: Cell) -> Record | None:
        """Return the record that the folder has of a cell as it would be trained now, if any.

        One that failed or ran out of time is the cell's as well: if it were tried again, a race
        that goes on would not be the race that was killed.
        """
        record = self._run.store.read(cell)
        return record if record is not None and self._holds(record) else None

    def train(self, cells: Iterable[Cell]) -> list[Record]:
        """Train cells, or take what is stored; return their records, in the cells' order."""
        cells = list(dict.fromkeys(cells))
        old = {cell: record for cell in cells if (record := self.stored(cell))}
        begun = time.monotonic()
        self._run.start([cell for cell in cells if cell not in old or self._run.done(cell)])
        self._run.finish()
        for cell, record in old.items():
            self._run.records.setdefault(cell, record)
        new = [self._run.records[cell] for cell in cells if cell not in old]
        if spent := sum(map(_seconds, new)):
            self._trained_s += spent
            self._waited_s += time.monotonic() - begun
            self._at_once = self._trained_s / max(self._waited_s, 1e-6)
        return [self._run.records[cell] for cell in cells]

    def _holds(self, record: Record) -> bool:
        """Return whether a stored record stands for its cell, which is not to be trained then."""
        if self._run.rerun or record.status == Status.SKIPPED:
            return False
        return record.fingerprint == self._run.fingerprint(record.cell)

    def takes(self, cells: Iterable[Cell]) -> float:
        """Predict the seconds that it will take to train those cells that are not trained yet."""
        return self.predict([cell for cell in cells if self.stored(cell) is None])

    def predict(self, cells: Sequence[Cell]) -> float:
        """Predict the seconds for cells: each takes as long as its arm's others, if there are any.

        Else it takes as long as the run predicts.
        """
        known: dict[str, list[float]] = {}
        topics = {cell.topic for cell in cells}
        for cell, record in self._run.records.items():
            if cell.topic in topics and record.status is not Status.SKIPPED:
                known.setdefault(arm_of(cell), []).append(_seconds(record))
        total = 0.0
        for cell in cells:
            own = known.get(arm_of(cell))
            total += sum(own) / len(own) if own else self._run.predict(cell)
        return total / self._at_once

    def left(self) -> float:
        """Return the seconds that are left."""
        return self._end - time.monotonic()

    def at_once(self, arms: int) -> int:
        """Return how many blocks of so many arms keep all cores, or GPUs, busy."""
        return max(1, math.ceil(self._places / arms))


def block(cells: Iterable[Cell], seed: int) -> list[Cell]:
    """Return the arms' cells of a seed."""
    return [replace(cell, seed=seed) for cell in cells]


def _seconds(record: Record) -> float:
    return record.cost.get("wall_s", 0.0)


class Measure:
    """Takes from records what arms are judged by, larger being better.

    metric: by default the topic's primary one. half: ``metrics`` (those of the test half) if there
    are records of trainings that ended and none has another, else ``validation``.
    """

    def __init__(self, records: Sequence[Record], metric: str = "") -> None:
        directions = next((record.directions for record in records if record.directions), {})
        self.metric = metric or next(iter(directions), "")
        self.direction = directions.get(self.metric, "max")
        self.sign = 1 if self.direction == "max" else -1
        ended = [record for record in records if record.status == Status.DONE]
        bare = ended and not any(record.validation for record in ended)
        self.half = "metrics" if bare else "validation"

    def choice(self, record: Record) -> float | None:
        """Return the value to choose by; None if the cell did not train to an end."""
        return self._value(record, self.half)

    def test(self, record: Record) -> float | None:
        """Return the value to report; None if the cell did not train to an end."""
        return self._value(record, "metrics")

    def untrained(self, record: Record) -> float | None:
        """Return the value of the untrained network; None if the cell had none."""
        value = record.baseline.get(self.metric, math.nan)
        return self.sign * value if math.isfinite(value) else None

    def values(self, records: Sequence[Record]) -> list[float]:
        """Return the values of a block: what did not train counts as untrained, or as the worst."""
        found = [self.choice(record) for record in records]
        plain = [self.untrained(record) for record in records]
        every = [value for value in (*found, *plain) if value is not None]
        worst = min(every, default=0.0)
        lowest = [worst if value is None else value for value in plain]
        return [low if value is None else value for value, low in zip(found, lowest, strict=True)]

    def _value(self, record: Record, half: str) -> float | None:
        value = self._of(record, half).get(self.metric, math.nan)
        ended = record.status == Status.DONE and math.isfinite(value)
        return self.sign * value if ended else None

    @staticmethod
    def _of(record: Record, half: str) -> dict[str, float]:
        return record.validation if half == "validation" else record.metrics
