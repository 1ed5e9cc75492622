"""The page's table of races, from the rows of answers.csv."""

import pandas as pd

from harness.results.columns import STUDIES
from harness.results.dashboard.race import LISTED, races


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
