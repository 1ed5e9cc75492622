"""Hold a topic's race: blocks until the arms are told apart or the time is over, then fresh seeds.

Which arm leaves, and when, follows from the records alone, so that a race that was killed goes on
where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from harness.cell import Cell, Status, UsageError
from harness.race import fresh
from harness.race.blocks import Clock, Measure, arm_of, block
from harness.race.procedure import FIRST, Race
from harness.results.record import Record
from harness.runs import Run
from harness.training.topic import Topic

KEPT = 1 / 3  # of the time, at most, for fresh seeds while the race goes on
MARGIN = 0.02  # of what the best arm wins over the untrained network, where a topic has none


@dataclass
class Course:
    """A topic's race as it went: its arms by name, what it is judged by, its state.

    records: by arm, those of the race's seeds; fresh: those of the fresh seeds. stopped: why the
    race was over, empty while it goes on.
    """

    topic: Topic
    cells: Mapping[str, Cell]
    measure: Measure
    race: Race
    records: dict[str, list[Record]]
    fresh: dict[str, list[Record]] = field(default_factory=dict)
    stopped: str = ""

    @property
    def left(self) -> list[str]:
        """The arms that are left, the best first."""
        return sorted(self.race.left, key=lambda arm: -self.race.standings[arm].value)

    @property
    def recipe(self) -> str | None:
        """The arm that is the topic's recipe for the leader's model, settings and precision."""
        leader = self.cells[self.race.leader]
        loss, schedule = self.topic.recipe
        used = "constant" if leader.model in self.topic.fits else schedule
        own = arm_of(replace(leader, loss=loss, schedule=used, rate=None))
        return own if own in self.cells else None


def hold(run: Run, cells: Iterable[Cell], minutes: float, kept: Callable[[Course], None]) -> None:
    """Race the recipes of cells, topic by topic, each in the share of time its first blocks take.

    Models of a topic that are judged by different metrics have races of their own. kept is called
    with each race whenever there is something new to keep. Raises UsageError if the least that a
    race needs is expected to take longer than the minutes.
    """
    cells = list(dict.fromkeys(cells))
    raced = [cell for cell in cells if run.skip_reason(cell) is None]
    races: dict[tuple[str, str], list[Cell]] = {}
    for cell in raced:
        metric = run.topic(cell).judged_by(cell.model)[0]
        races.setdefault((cell.topic, metric), []).append(cell)
    guess = {key: Clock(run, minutes, own) for key, own in races.items()}
    blocks = {
        key: [one for seed in range(FIRST) for one in block(own, seed)]
        for key, own in races.items()
    }
    needed_s = {key: guess[key].predict(wanted) for key, wanted in blocks.items()}
    whole = sum(guess[key].takes(wanted) for key, wanted in blocks.items()) / (1 - KEPT) / 60
    if whole > minutes:
        raise UsageError(
            f"minutes {minutes:g}: {FIRST} blocks of {len(raced)} recipes, the least of a race, "
            f"and fresh seeds need about {whole:.1f} minutes: give more, or choose fewer with -k"
        )
    run.start([cell for cell in cells if cell not in raced])
    left = minutes
    for number, key in enumerate(races):
        ahead = sum(needed_s[other] for other in list(races)[number:])
        clock = Clock(run, left * needed_s[key] / ahead if ahead else left, races[key])
        _hold(run, run.topics[key[0]], key[1], races[key], clock, kept)
        left -= (clock.given_s - clock.left()) / 60


def _hold(
    run: Run,
    topic: Topic,
    metric: str,
    cells: list[Cell],
    clock: Clock,
    kept: Callable[[Course], None],
) -> None:
    """Race a topic's recipes by a metric, then train the finalists on fresh seeds."""
    arms = {arm_of(cell): cell for cell in cells}
    blocks, measure = _first_blocks(cells, metric, clock)
    own = topic.margin if metric == next(iter(topic.directions)) else None
    margin = _margin(measure, blocks[-1]) if own is None else own
    course = Course(topic, arms, measure, Race(list(arms), margin), {arm: [] for arm in arms})
    if measure.half != "validation":
        run.report(f"{topic.name} has no validation data: its arms are chosen by their test metric")
    for records in blocks:
        _add(run, course, dict(zip(arms, records, strict=True)), clock)
    while not course.race.settled:
        kept(course)
        ahead = clock.at_once(len(course.race.left))
        seeds = range(course.race.blocks, course.race.blocks + ahead)
        left = {arm: arms[arm] for arm in course.race.left}
        wanted = [cell for seed in seeds for cell in block(left.values(), seed)]
        reserve = min(clock.predict(_reserve(course)), KEPT * clock.given_s)
        needed = clock.takes(wanted)
        if needed and needed + reserve > clock.left():
            break
        records = clock.train(wanted)
        for number in range(ahead):
            part = records[number * len(left) : (number + 1) * len(left)]
            _add(run, course, dict(zip(left, part, strict=True)), clock)
            if course.race.settled:
                break
    course.stopped = _why(course)
    run.report(f"{topic.name}: {course.stopped}")
    kept(course)
    _train_fresh(run, course, clock, kept)


def _first_blocks(
    cells: list[Cell], metric: str, clock: Clock
) -> tuple[list[list[Record]], Measure]:
    """Train blocks until one has a training that ended, or the time is over.

    Before that it is not known whether the topic has validation data, nor what there is to win.
    """
    blocks = [clock.train(cells)]
    while True:
        measure = Measure(blocks[-1], metric)
        ended = any(measure.choice(record) is not None for record in blocks[-1])
        over = all(record.status is Status.UNMEASURED for record in blocks[-1])
        if len(cells) == 1 or ended or over:
            return blocks, measure
        wanted = block(cells, len(blocks))
        needed = clock.takes(wanted)
        if needed and needed + KEPT * clock.given_s > clock.left():
            return blocks, measure
        blocks.append(clock.train(wanted))


def _margin(measure: Measure, records: list[Record]) -> float:
    """Return a share of what the best training of a block wins over the untrained network."""
    plain = [value for r in records if (value := measure.untrained(r)) is not None]
    ended = [value for r in records if (value := measure.choice(r)) is not None]
    return MARGIN * abs(max(ended) - sum(plain) / len(plain)) if plain and ended else 0.0


def _add(run: Run, course: Course, records: Mapping[str, Record], clock: Clock) -> None:
    """Give a block to the race, and report where it stands."""
    race, measure = course.race, course.measure
    values = measure.values(list(records.values()))
    for arm in race.left:
        course.records[arm].append(records[arm])
    race.withdraw([arm for arm in race.left if records[arm].status is Status.UNMEASURED])
    if not race.left:
        return
    race.add(dict(zip(records, values, strict=True)))
    leader = measure.sign * race.standings[race.leader].value
    run.report(
        f"{course.topic.name} block {race.blocks}: {len(race.left)} of {len(race.arms)} arms left, "
        f"leader {race.leader} ({measure.half} {measure.metric} {leader:.4g}), "
        f"{max(0.0, clock.left()) / 60:.1f} min left"
    )


def _reserve(course: Course) -> list[Cell]:
    """Return the trainings for which time is kept until the race is over."""
    finalists = course.left[: fresh.FINALISTS]
    own = [course.recipe] if course.recipe and course.recipe not in finalists else []
    arms = [course.cells[arm] for arm in (*finalists, *own)]
    seeds = range(fresh.FIRST_SEED, fresh.FIRST_SEED + fresh.LEAST)
    return [cell for seed in seeds for cell in block(arms, seed)]


def _why(course: Course) -> str:
    """Return why a race is over, as a sentence."""
    race = course.race
    blocks = f"after {race.blocks} block{'s' * (race.blocks > 1)}"
    if not race.left:
        return f"no recipe is left of which each training has a finite {course.measure.metric}"
    if len(race.left) == 1:
        return f"only {race.leader} is left {blocks}"
    if race.settled:
        return f"all that are left are tied within {race.margin:.3g} {blocks}"
    return f"the time was over {blocks}"


def _train_fresh(run: Run, course: Course, clock: Clock, kept: Callable[[Course], None]) -> None:
    """Train as many finalists as there is time for, and the topic's recipe, on fresh seeds."""
    if not course.left:
        return
    own = [course.recipe] if course.recipe and course.recipe not in course.race.withdrawn else []
    finalists = course.left
    while len(finalists) > 1:
        arms = dict.fromkeys([*finalists, *own])
        seeds = range(fresh.FIRST_SEED, fresh.FIRST_SEED + fresh.LEAST)
        wanted = [one for s in seeds for one in block((course.cells[arm] for arm in arms), s)]
        if clock.takes(wanted) <= clock.left():
            break
        finalists = finalists[:-1]
    if len(finalists) < len(course.left):
        run.report(
            f"{course.topic.name}: the time is enough for fresh seeds of {len(finalists)} of "
            f"{len(course.left)} finalists"
        )
    chosen = {arm: course.cells[arm] for arm in dict.fromkeys([*finalists, *own])}
    course.fresh = {arm: [] for arm in chosen}
    seeds = range(fresh.FIRST_SEED, fresh.FIRST_SEED + fresh.LEAST)
    while seeds:
        records = clock.train(one for seed in seeds for one in block(chosen.values(), seed))
        for number, record in enumerate(records):
            course.fresh[list(chosen)[number % len(chosen)]].append(record)
        kept(course)
        trained = len(course.fresh[course.race.leader])
        seeds = range(seeds.stop, seeds.stop + 1) if trained < fresh.MOST else range(0)
        if seeds and clock.takes(block(chosen.values(), seeds[0])) > clock.left():
            break
