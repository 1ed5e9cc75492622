"""A race of toys on both executors: its answers, its end, and how it goes on after a kill."""

import inspect
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
from toy import Toy

from harness import matrix, race
from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell, UsageError
from harness.options import RunOptions
from harness.race import fresh
from harness.race.blocks import Clock, Measure, arm_of
from harness.race.course import Course
from harness.race.procedure import FIRST, Race
from harness.results import side_files
from harness.results.record import Record
from harness.results.report import write_report
from harness.runs import Run
from harness.trial import cost


@dataclass(frozen=True)
class Racer(Toy):
    """Under mae it hardly learns."""

    margin: ClassVar[float | None] = 0.2
    budgets: ClassVar[dict] = dict.fromkeys(("smoke", "quick", "full"), Budget(30, 16))

    def players(self, cell):
        player = super().players(cell)[0]
        slow = OptimizerSpec("sgd", lr=1e-4) if cell.loss == "mae" else player.optimizer
        return [replace(player, optimizer=slow)]


CELLS = [Cell("toy", "line", loss, "cosine") for loss in ("mse", "huber", "mae", "hinge")]


def raced(folder, cells=CELLS, topic=None, minutes=5.0, **options):
    said = []
    run = Run(folder, {"toy": topic or Racer()}, "race", report=said.append, **options)
    try:
        race.hold(run, cells, minutes)
    finally:
        run.close()
    return run, side_files.study(folder, "answers"), said


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    return raced(tmp_path_factory.mktemp("race"))


@dataclass(frozen=True)
class Parts(Racer):
    """Its model ``dropout`` learns a task of its own, and has no other metric."""

    margin: ClassVar[float | None] = None
    alone: ClassVar[dict] = {"r2": "dropout"}

    def evaluate(self, networks, cell):
        return self._own(super().evaluate(networks, cell), cell)

    def validate(self, networks, cell):
        return self._own(super().validate(networks, cell), cell)

    def _own(self, found, cell):
        return {name: v for name, v in found.items() if (name == "r2") == (cell.model == "dropout")}


def test_models_that_are_judged_by_another_metric_have_a_race_of_their_own(tmp_path):
    cells = [replace(cell, model=model) for model in ("line", "dropout") for cell in CELLS[::2]]
    _, answers, _ = raced(tmp_path, cells, Parts())
    assert dict(answers.groupby("model")["metric"].unique().map(list)) == {
        **{"line": ["mse"], "dropout": ["r2"]}
    }
    own = answers[answers["model"] == "dropout"].set_index("loss")
    assert own.loc["mse", "validation"] > own.loc["mae", "validation"]  # not called equal
    assert own.loc["mae", "verdict"] == "worse" and own["trained"].str.fullmatch(r"(\d+)/\1").all()
    page = write_report(tmp_path).read_text()
    assert "The race of toy by mse" in page and "The race of toy by r2" in page


def test_all_arms_meet_the_same_seeds_and_the_report_has_fresh_ones(held):
    run, answers, _ = held
    seeds = {loss: {c.seed for c in run.records if c.loss == loss} for loss in answers["loss"]}
    for row in answers.to_dict("records"):
        own = {seed for seed in seeds[row["loss"]] if seed < fresh.FIRST_SEED}
        assert own == set(range(row["blocks"])) and row["blocks"] >= FIRST
        assert len(seeds[row["loss"]]) == row["blocks"] + row["seeds"]
        assert row["trained"] == f"{len(seeds[row['loss']])}/{len(seeds[row['loss']])}"
    assert {record.profile for record in run.records.values()} == {"race"}


def test_answers_are_those_of_the_records(held):
    run, answers, said = held
    best = answers.iloc[0]
    records = [r for c, r in run.records.items() if c.loss == best["loss"]]
    chosen = [r.validation["mse"] for r in records if r.cell.seed < fresh.FIRST_SEED]
    tested = [r.metrics["mse"] for r in records if r.cell.seed >= fresh.FIRST_SEED]
    assert best["validation"] == pytest.approx(sum(chosen) / len(chosen))
    assert best["test"] == pytest.approx(sum(tested) / len(tested))
    assert best["test_low"] < best["test"] < best["test_high"]
    assert best["behind"] == 0 and best["margin"] == 0.2 and best["chosen_by"] == "validation"
    worse = answers[answers["verdict"] == "worse"]
    assert len(worse) and (worse["behind_low"] > 0).all() and worse["dropped_by"].notna().all()
    recipe = answers[answers["recipe"]]
    assert list(recipe["loss"]) == ["mse"] and recipe["seeds"].item() >= fresh.LEAST
    assert any(line.startswith(f"toy block {FIRST}: ") for line in said)


def test_the_page_begins_with_the_race(held):
    run, answers, _ = held
    page = write_report(run.folder).read_text()
    assert page.index("The race of toy") < page.index('<section id="answers">')
    assert f"line with {answers.iloc[0]['loss']}, cosine" in page
    assert answers.iloc[0]["stopped"] in page


def test_a_second_call_trains_nothing_and_says_the_same(held):
    run, answers, _ = held
    again, found, _ = raced(run.folder)
    pd.testing.assert_frame_equal(found, answers)
    assert {c: r.started for c, r in again.records.items()} == {
        c: r.started for c, r in run.records.items()
    }


def test_what_earlier_calls_trained_counts_as_time_and_predicts_it(held):
    run, _, _ = held
    again = Run(run.folder, run.topics, "race", report=lambda line: None)
    clock = Clock(again, 60, CELLS)
    cells = [cell for cell in run.records if cell.seed == 1]
    wall_s = {cell: run.records[cell].cost["wall_s"] for cell in cells}
    whole_s = sum(record.cost["wall_s"] for record in run.records.values())
    try:
        clock.train(cells)
    finally:
        again.close()
    assert clock.left() <= 3600 - whole_s / cost.cores()
    assert clock.takes(cells) == 0
    ahead = [replace(cell, seed=77) for cell in cells]
    assert clock.predict(ahead) == pytest.approx(sum(wall_s.values()) / cost.cores())


def test_other_topics_answers_stay(held, tmp_path):
    _, answers, _ = held
    text = answers.assign(topic="other").to_csv(index=False)
    (tmp_path / "answers.csv").write_text(text)
    _, found, _ = raced(tmp_path, CELLS[:1])
    assert set(found["topic"]) == {"other", "toy"} and len(found) == len(answers) + 1


def kept(folder, answers):
    about = {name: answers[name].iloc[0] for name in ("topic", "metric", "race")}
    side_files.keep(folder, "answers", answers, about, print)
    return side_files.study(folder, "answers")


def test_answers_of_another_race_of_the_topic_stay(held, tmp_path):
    _, answers, _ = held
    assert answers["race"].nunique() == 1 and answers["race"].str.len().eq(8).all()
    kept(tmp_path, answers.assign(race="another"))
    assert len(kept(tmp_path, answers)) == 2 * len(answers)
    assert len(kept(tmp_path, answers)) == 2 * len(answers)


def test_answers_of_an_earlier_version_give_way_to_those_of_the_race_gone_on_with(held, tmp_path):
    _, answers, _ = held
    answers.drop(columns="race").to_csv(tmp_path / "answers.csv", index=False)
    found = kept(tmp_path, answers)
    assert len(found) == len(answers) and found["race"].notna().all()


def test_a_race_whose_blocks_are_there_is_not_refused_for_their_seconds(tmp_path, monkeypatch):
    _, before, _ = raced(tmp_path)
    monkeypatch.setattr("harness.race.blocks._seconds", lambda record: 600.0)
    monkeypatch.setattr(Run, "predict", lambda self, cell: 600.0)
    _, answers, _ = raced(tmp_path, minutes=1.0)
    assert answers["blocks"].tolist() == before["blocks"].tolist() and before["blocks"].min() >= 3
    assert answers["verdict"].tolist() == before["verdict"].tolist()


def test_damaged_answers_are_moved_aside_and_named(tmp_path):
    (tmp_path / "answers.csv").write_text("topic,model\ntoy")
    _, found, said = raced(tmp_path, CELLS[:1])
    aside = list(tmp_path.glob("answers.*.damaged"))
    assert len(found) == 1 and len(aside) == 1 and aside[0].read_text() == "topic,model\ntoy"
    assert any(str(aside[0]) in line for line in said)


@pytest.mark.parametrize(("seconds", "blocks"), [(36, 6), (60, 10)])
def test_when_the_time_is_over_it_says_so_and_still_trains_fresh_seeds(
    tmp_path, monkeypatch, seconds, blocks
):
    """A clock by which a training takes a second: fresh seeds of 4 arms want 20, or get a third."""
    monkeypatch.setattr(Clock, "predict", lambda self, cells: float(len(cells)))
    monkeypatch.setattr(Clock, "left", lambda self: self.given_s - len(done(self)))
    monkeypatch.setattr("harness.race.procedure.spent", lambda *_: 0.0)  # nothing leaves
    run, answers, said = raced(tmp_path, minutes=seconds / 60)
    assert len(run.records) <= seconds
    assert f"toy: the time was over after {blocks} blocks" in said
    assert (answers["stopped"] == f"the time was over after {blocks} blocks").all()
    assert answers["verdict"].tolist() == ["leads", "undecided", "undecided", "undecided"]
    assert answers["seeds"].iloc[0] >= fresh.LEAST


def done(clock):
    return [cell for cell in clock._run.records if cell.topic == "toy"]


def test_too_few_minutes_are_refused_before_anything_runs(tmp_path):
    slow = dict.fromkeys(("smoke", "quick", "full"), Budget(30, 16, expected_s=600))
    topic = type("Slow", (Racer,), {"budgets": slow})()
    with pytest.raises(UsageError, match=r"minutes 5: 3 blocks of 4 recipes, the least of"):
        raced(tmp_path, topic=topic)
    assert not (tmp_path / "cells").exists() or not any((tmp_path / "cells").iterdir())


def test_what_diverges_counts_as_untrained_and_is_shown(tmp_path):
    @dataclass(frozen=True)
    class Explodes(Racer):
        def players(self, cell):
            bad = Toy(misbehave="nan") if cell.loss == "huber" and cell.seed % 2 else Toy()
            return bad.players(cell)

    _, answers, _ = raced(tmp_path, CELLS[:2], Explodes())
    row = answers.set_index("loss").loc["huber"]
    done, all_of = map(int, row["trained"].split("/"))
    assert done == (all_of + 1) // 2 and row["validation"] > 0.5


def record(status, validation=None, untrained=1.0):
    cell = Cell("toy", "line", "mse", "cosine")
    told = {"directions": {"mse": "min"}, "baseline": {"mse": untrained} if untrained else {}}
    half = {"mse": validation} if validation is not None else {}
    return Record(cell, "f", status, validation=half, metrics=half, **told)


def test_a_block_s_values_are_oriented_and_whole():
    block = [record("done", 0.25), record("diverged"), record("failed", untrained=None)]
    block.append(record("done", float("nan"), untrained=3.0))
    assert Measure(block).values(block) == [-0.25, -1.0, -3.0, -3.0]
    assert arm_of(Cell("toy", "line", "mse", "cosine", rate=0.3, seed=7)) == "line-mse-cosine-r0.3"


def test_a_race_without_validation_says_what_it_chooses_by(tmp_path):
    @dataclass(frozen=True)
    class NoHalf(Racer):
        def validate(self, networks, cell):
            return {}

    _, answers, said = raced(tmp_path, CELLS[:1], NoHalf())
    assert answers["chosen_by"].item() == "metrics"
    assert any("no validation data" in line for line in said)


CONFTEST = f"""
{(Path(__file__).parents[1] / "toy.py").read_text()}
from dataclasses import replace

{inspect.getsource(Racer)}

def pytest_decathlon_topics():
    return [Racer()]
"""
EXPERIMENT = """
import pytest

@pytest.mark.decathlon(topic="toy")
def test_toy(record):
    record.check()
"""
SELECTED = "line and cosine and not warmup and (mse or huber or mae or hinge)"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_own.py").write_text(EXPERIMENT)
    pytest_ = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider"]

    def command(*arguments):
        asked = [*pytest_, "--profile", "race", "-k", SELECTED, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(asked, cwd=tmp_path, **pipes)

    command.path = tmp_path
    return command


def test_a_killed_race_goes_on_to_the_answers_of_one_that_was_not(held, project):
    killed = project("--minutes", "9", "--run-dir", "killed")
    for line in killed.stdout:
        if f"toy block {FIRST}:" in line:
            killed.send_signal(signal.SIGKILL)
            break
    killed.communicate()
    kept = {p: p.stat().st_mtime_ns for p in (project.path / "killed" / "cells").glob("*.json")}
    assert len(kept) >= 4 * FIRST
    again = project("--minutes", "9", "--run-dir", "killed")
    said, _ = again.communicate()
    assert again.returncode == 0 and "4 passed" in said, said
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    found = side_files.study(project.path / "killed", "answers")
    assert found["setup"].nunique() == 1 and found["setup"].str.startswith("toy=").all()
    own = ["train_s", "setup"]  # here the topic is a conftest's
    pd.testing.assert_frame_equal(*(frame.drop(columns=own) for frame in (held[1], found)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--minutes M"),
        (["--minutes", "5", "--profile", "smoke"], "minutes 5 is for --profile race"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(project, arguments, message):
    asked = project(*arguments)
    said, _ = asked.communicate()
    assert asked.returncode == 2 and message in said and "Traceback" not in said
    assert not (project.path / "results").exists()


def test_minutes_and_seeds_of_a_race_are_checked():
    with pytest.raises(UsageError, match="minutes 0: it must be 1 or more"):
        RunOptions(profile="race", minutes=0)
    with pytest.raises(UsageError, match="seeds 3: a race takes as many as"):
        matrix.select({"toy": Racer()}, "race", seeds=3)
    assert len(matrix.select({"toy": Racer()}, "race")["toy"]) == 2 * 7 * 9


def test_values_of_a_setting_race_as_arms_of_their_own():
    cells = [replace(CELLS[0], settings=(("turns", turns),)) for turns in ("1", "2")]
    assert [arm_of(cell) for cell in cells] == [
        "line-mse-cosine-turns-1",
        "line-mse-cosine-turns-2",
    ]
    arms = {arm_of(cell): cell for cell in cells}
    race = Race(list(arms), 0.1)
    race.add(dict(zip(arms, (0.0, 1.0), strict=True)))
    course = Course(Racer(), arms, Measure([]), race, {arm: [] for arm in arms})
    assert course.recipe == "line-mse-cosine-turns-2"


def test_precisions_race_as_arms_of_their_own(tmp_path):
    cells = [replace(CELLS[0], precision=precise) for precise in ("fp32", "bf16")]
    run, found, _ = raced(tmp_path, cells)
    assert sorted(found["precision"]) == ["bf16", "fp32"] and found["recipe"].sum() == 1
    assert {record.cell.precision for record in run.records.values()} == {"fp32", "bf16"}


@dataclass(frozen=True)
class Odd(Racer):
    """Its metric is infinitely good under the losses of ``lost`` from seed ``since`` on."""

    lost: tuple[str, ...] = ("huber",)
    since: int = 1

    def validate(self, networks, cell):
        found = super().validate(networks, cell)
        odd = cell.loss in self.lost and cell.seed >= self.since
        return found | {"mse": float("-inf")} if odd else found


def test_an_arm_without_a_finite_value_leaves_the_race_and_none_is_best(tmp_path):
    _, answers, _ = raced(tmp_path, CELLS[:3], Odd())
    own = answers.set_index("loss")
    lost = own.loc["huber"]
    assert (lost["verdict"], lost["dropped_by"], lost["blocks"]) == ("unmeasured", 2, 2)
    assert lost["trained"] == "1/2" and lost[["validation", "behind", "behind_high"]].isna().all()
    assert own.loc["mae", "verdict"] == "worse" and own.loc["mae", "dropped_by"] >= FIRST
    assert own.loc["mse", "verdict"] == "leads" and answers["loss"].iloc[0] == "mse"
    page = write_report(tmp_path).read_text()
    assert "1 recipes are worse, 1 unmeasured" in page and "is best of" not in page


def test_a_race_of_which_no_arm_has_finite_values_is_over(tmp_path):
    topic = Odd(lost=("mse", "huber"), since=0)
    run, answers, said = raced(tmp_path, CELLS[:2], topic)
    assert answers["verdict"].tolist() == ["unmeasured"] * 2 and len(run.records) == 2
    over = "no recipe is left of which each training has a finite mse"
    assert set(answers["stopped"]) == {over} and f"toy: {over}" in said
    page = write_report(tmp_path).read_text()
    assert "None of 2 recipes has a finite mse of all its trainings" in page
