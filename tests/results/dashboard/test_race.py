"""The page's table of races and its answers of raced topics, from the rows of answers.csv."""

import html
import re

import pandas as pd
import pytest

from harness.cell import Cell
from harness.results import dashboard, effects, tables
from harness.results.columns import STUDIES, Tables
from harness.results.dashboard.race import LISTED, arms, judged, races
from harness.results.dashboard.text import NONE
from harness.results.record import Record
from harness.results.summary import summary


def answers(verdicts, topic="toy", recipe=0):
    rows = [
        dict.fromkeys(STUDIES["answers"])
        | {"topic": topic, "model": "line", "loss": f"loss{number}", "verdict": verdict}
        | {"recipe": number == recipe, "metric": "mse", "direction": "min", "behind": 0.1 * number}
        | {"margin": 0.2, "stopped": "the time was over", "chosen_by": "validation"}
        for number, verdict in enumerate(verdicts)
    ]
    return pd.DataFrame(rows)


def test_what_is_left_comes_first_and_the_recipe_is_always_shown():
    found = races(answers(["tied best", "tied best", "undecided", "worse", "worse"], recipe=4))[0]
    assert [row["loss"] for row in found["left"]] == ["loss0", "loss1", "loss2"]
    assert found["own"]["loss"] == "loss4" and found["first"]["loss"] == "loss0"
    assert (found["arms"], len(found["worse"]), found["more"]) == (5, 2, 0)
    assert races(answers(["best", "worse"]))[0]["own"] is None


def test_what_is_before_the_leader_on_test_data_beyond_doubt_is_named():
    frame = answers(["best", "worse", "worse", "worse"])
    frame["test_behind_high"] = [0.0, -0.02, 0.01, None]
    assert [row["loss"] for row in races(frame)[0]["ahead"]] == ["loss1"]
    assert races(answers(["best", "worse"]))[0]["ahead"] == []


def test_races_of_the_same_topic_are_told_apart():
    one, two = (answers(["best"]).assign(race=name) for name in ("a", "b"))
    assert [race["name"] for race in races(pd.concat([one, two]))] == ["toy", "toy, race 2"]


def test_each_topic_has_its_race_and_long_lists_are_cut():
    frame = pd.concat(
        [answers(["best"], "one"), answers(["best"] + ["worse"] * (LISTED + 7), "two")]
    )
    one, two = races(frame)
    assert (one["topic"], two["topic"]) == ("one", "two")
    assert len(two["worse"]) == LISTED and two["more"] == 7
    assert races(None) == []


VALUES = {"loss0": 0.2, "loss1": 0.1, "loss2": 0.9}  # over all seeds loss1 is best
SECONDS = {"loss0": 9.0, "loss1": 4.0, "loss2": 1.0}


def cells(topic="toy", model="line"):
    return [
        Record(
            Cell(topic, model, loss, "cosine", seed=seed),
            "f",
            "done",
            metrics={"mse": value},
            validation={"mse": value + 0.001 * (seed % 2)},
            baseline={"mse": 1.0},
            directions={"mse": "min"},
            cost={"train_s": SECONDS[loss]},
        ).to_dict()
        for loss, value in VALUES.items()
        for seed in (0, 1, 1000, 1001)
    ]


def race(verdicts=("leads", "undecided", "worse"), **more):
    rows = answers(verdicts).assign(
        schedule="cosine",
        precision="fp32",
        rate=1.0,
        settings=None,
        behind=[0.0, 0.01, 0.8],
        validation=[0.1, 0.11, 0.6],
        test=[0.25, 0.26, None],
        test_low=[0.24, 0.2, None],
        test_high=[0.27, 0.3, None],
        trained=["4/4", "3/4", "2/2"],
        train_s=list(SECONDS.values()),
        seeds=[2, 2, 0],
    )
    return rows.assign(**more)


def page(records, answers):
    known = tables.cells(records)
    told = Tables(known, tables.curves(records), summary(known), effects.effects(known))
    text = dashboard.render(told._replace(answers=answers), "run").split("<body>")[1]
    text = re.sub(r"<script.*", "", text, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_a_raced_topic_has_its_race_s_answer_and_no_other_standing():
    found = page(cells() + cells("plain"), race())
    answer, topic = found.split("Answers topic")[1].split(" toy 2 of 3 recipes")[1:]
    for text in (answer, topic):
        assert text.startswith(
            " cannot be told apart : line with loss0, cosine; line with loss1, cosine. "
            "line with loss0, cosine leads"
        )
    row = "mse 0.25 0.24 to 0.27 4/4 1 9 s line with loss1, cosine: 0.26 in 4 s"
    assert answer.split(" leads ")[1].startswith(row)
    assert "Reported mse 0.25 (95 % interval 0.24 to 0.27 over 2 fresh seeds, 4/4 trained)" in topic
    assert "of those, line with loss1, cosine is cheapest: 0.26 in 4 s instead of 9 s." in topic
    assert f"line loss2 cosine single 1 worse 2/2 0.6 {NONE} {NONE} no fresh seeds" in topic
    assert "plain line with loss1, cosine is best of 3, at 5 % error" in answer
    assert "loss1, cosine is best" not in topic


def test_a_race_that_goes_on_reports_nothing_yet():
    more = dict.fromkeys(("test", "test_low", "test_high", "stopped"))
    found = page(cells(), race(**more, seeds=0))
    assert f"leads; the race goes on mse {NONE} no fresh seeds 4/4 1 9 s" in found
    assert "leads; the race goes on. No fresh seed has trained, so nothing is reported" in found
    assert "line with loss1, cosine is cheapest: 4 s instead of 9 s" in found


def test_each_race_of_a_topic_has_its_row_and_what_was_not_raced_no_standing():
    both = pd.concat([race(race="a"), race(race="b", model="curve")])
    found = page(cells() + cells(model="curve") + cells(model="other"), both)
    assert "toy 2 of 3 recipes cannot be told apart : line with loss0, cosine;" in found
    assert "toy, race 2 2 of 3 recipes cannot be told apart : curve with loss0, cosine;" in found
    assert "other loss1 cosine single 1 not raced 4/4" in found
    assert "3 of 9 recipes were not in it" in found


def test_recipes_are_chosen_by_what_they_are_behind_the_leader_and_by_their_last_race():
    frame = pd.concat([race(race="a"), race(("best", "worse", "worse"), race="b")])
    known = summary(tables.cells(cells()))
    first, last = (arms(one, known) for one in races(frame))
    assert first["chosen"].tolist() == pytest.approx([0.1, 0.11, 0.9])
    assert first["baseline"].tolist() == [1.0] * 3 and first["train_s"].tolist() == [
        *SECONDS.values()
    ]
    own = known[known["metric"] == "mse"].assign(chosen=known["validation"])[::-1]
    charts, shown = judged(own, pd.concat([first, last]))
    assert charts["standing"].tolist() == shown["standing"].tolist() == ["best", "worse", "worse"]
    assert charts["loss"].tolist() == shown["loss"].tolist() == list(VALUES)
    assert charts["mean"].notna().all() and shown["mean"].isna().tolist() == [False, False, True]


def test_a_race_by_another_metric_leaves_the_topic_s_own_answer():
    found = page(cells(), race(metric="iou"))
    assert "toy 2 of 3 recipes cannot be told apart" in found
    assert "toy line with loss1, cosine is best of 3, at 5 % error" in found
    assert "not raced" not in found


def test_what_is_unmeasured_is_not_called_worse_and_leaves_no_best():
    none = dict.fromkeys(("behind", "validation"), [0.0, None, 0.8])
    found = page(cells(), race(("leads", "unmeasured", "worse"), **none))
    assert "line with loss0, cosine is left of 3 recipes" in found
    assert "1 recipes are worse, 1 unmeasured" in found
    assert (
        "line with loss0, cosine leads: what is not worse has trainings without a finite" in found
    )
    assert "Unmeasured: a training of it has no finite mse" in found
    assert "best of" not in found and "nothing is told apart" not in found


def test_what_has_left_is_behind_the_leader_of_its_block():
    found = page(cells(), race())
    left, worse = found.split("1 recipes are worse")
    assert "behind the leader validation" in left and "behind the leader then validation" in worse
    assert "behind the leader of the block by which it left" in worse
