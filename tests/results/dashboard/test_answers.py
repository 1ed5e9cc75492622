"""Which recipes the page says lead, cannot be told apart, and are not beaten by cheaper ones."""

import numpy as np
import pandas as pd
import pytest

from harness.results.dashboard import answers

ROW = {"topic": "t", "metric": "q", "model": "m", "schedule": "s", "parallel": "single", "rate": 1}
ROW |= {"precision": "fp32", "settings": ""}
ROW |= {"n": 1, "trained": 1, "ci_low": np.nan, "ci_high": np.nan, "baseline": np.nan}
ROW |= {"validation": np.nan, "chosen_by": "metric", "standing": "one seed"}


def own(better, *rows):
    table = pd.DataFrame(ROW | row for row in rows)
    return answers.configurations(table, "t", "q", better)


@pytest.mark.parametrize("better", ["max", "min"])
def test_one_seed_has_the_cheapest_within_a_percent(better):
    sign = 1 if better == "max" else -1
    rows = [
        {"loss": loss, "model": loss, "mean": 10 - sign * off, "train_s": s}
        for loss, off, s in (("b", 0.09, 5.0), ("a", 0.0, 9.0), ("c", 0.5, 1.0))
    ]
    found = answers.best(own(better, *rows), better)
    assert (found["loss"], found["near"]["loss"], found["tied"]) == ("a", "b", [])
    assert answers.best(own(better, rows[2]), better)["near"] is None


def test_seeds_name_all_that_cannot_be_told_apart_and_the_cheapest_of_them():
    rows = [
        {"loss": "a", "mean": 10.0, "train_s": 9.0, "standing": "tied", "rate": 0.3},
        {"loss": "b", "mean": 9.0, "train_s": 5.0, "standing": "tied", "parallel": "local_sgd"},
        {"loss": "c", "mean": 9.99, "train_s": 8.0, "standing": "worse"},
        {"loss": "d", "mean": 11.0, "train_s": 9.0},
        {"loss": "e", "mean": 12.0, "train_s": 9.0, "standing": "untrained", "trained": 0},
    ]
    found = answers.best(own("max", *rows), "max")
    assert found["tied"] == ["m with a, s, rate x0.3", "m with b, s, local_sgd"]
    assert (found["loss"], found["near"]["loss"], found["near"]["times"]) == ("a", "b", 1.8)
    assert found["counts"] == {"tied": 2, "worse": 1, "one seed": 1, "untrained": 1}


def test_ties_are_counted_and_the_cheapest_of_them_comes_first():
    rows = [
        {"loss": loss, "model": loss, "mean": 500.0, "train_s": s}
        for loss, s in (("a", 9.0), ("z", 5.0))
    ]
    found = answers.best(own("max", *rows, {"loss": "b", "mean": 2.0, "train_s": 1.0}), "max")
    assert (found["loss"], found["equal"]) == ("z", 2)


def test_seconds_are_the_model_s_unless_a_recipe_takes_twice_as_long_or_half():
    seconds = {"a": 8.0, "b": 9.0, "c": 13.0, "d": 19.0, "e": 3.0, "f": np.nan}
    rows = [{"loss": loss, "mean": 1.0, "train_s": s} for loss, s in seconds.items()]
    rows.append({"loss": "g", "model": "other", "mean": 1.0, "train_s": 1.0})
    found = own("max", *rows).set_index("loss")["train_s"].sort_index()
    assert found[["a", "b", "c", "d", "e", "g"]].tolist() == [9.0, 9.0, 9.0, 19.0, 3.0, 1.0]
    assert np.isnan(found["f"])


def test_validation_leads_where_it_is_known():
    known = {"chosen_by": "validation", "train_s": 1.0}
    rows = [{"loss": "a", "mean": 0.9, "validation": 0.5}, {"loss": "b", "mean": 0.8}]
    rows[1]["validation"] = 0.6
    assert answers.best(own("max", *(row | known for row in rows)), "max")["loss"] == "b"


def test_at_equal_time_only_what_learnt_and_nothing_cheaper_beats():
    rows = [
        {"loss": loss, "model": loss, "mean": mean, "train_s": s, "baseline": 1.0}
        for loss, mean, s in (("a", 0.9, 1.0), ("b", 2.0, 2.0), ("c", 1.9, 3.0), ("d", 3.0, 4.0))
    ]
    assert [row["loss"] for row in answers.front(own("max", *rows), "max")] == ["b", "d"]


def test_at_equal_time_recipes_are_chosen_by_validation_data():
    known = {"chosen_by": "validation", "baseline": 1.0}
    rows = [
        {"model": model, "loss": "a", "mean": mean, "validation": value, "train_s": s} | known
        for model, mean, value, s in (("m", 2.0, 3.0, 1.0), ("n", 5.0, 2.0, 2.0))
    ]
    assert [row["model"] for row in answers.front(own("max", *rows), "max")] == ["m"]


def test_the_pareto_front_holds_what_nothing_cheaper_beats():
    cost, value = np.array([1.0, 2.0, 3.0, 3.0]), np.array([5.0, 6.0, 4.0, 4.5])
    assert answers.pareto(cost, value, "min").tolist() == [True, False, True, False]
    assert answers.pareto(cost, value, "max").tolist() == [True, True, False, False]
