"""The search for each recipe's rate."""

import json
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import Toy

from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell, UsageError
from harness.rates import table
from harness.studies import tuning
from harness.studies.tuning import LADDER, Trial, beyond, confirming, outside, ranked, tune

MSE = Cell("toy", "line", "mse", "constant")


@dataclass(frozen=True)
class Slow(Toy):
    """A line whose own rate is far too small, so that a larger multiple serves it."""

    lr: float = 1e-3

    budgets: ClassVar[dict] = {
        profile: Budget(steps=90, batch_size=8, timeout_s=60, expected_s=0.1)
        for profile in ("smoke", "quick", "full")
    }

    def base_optimizer(self, model):
        return OptimizerSpec("sgd", lr=self.lr, momentum=0.0)


def trials(values, share=1):
    """Trials of one recipe by their rates and values."""
    key = table.recipe(MSE)
    nan = math.nan
    return [Trial(key, rate, share, seed, "done", v, nan) for (rate, seed), v in values.items()]


def test_the_best_mean_comes_first_and_what_came_to_nothing_last():
    nan = math.nan
    some = {(0.1, 0): 3.0, (0.1, 1): 1.0, (1.0, 0): 1.0, (1.0, 1): nan, (3.0, 0): 1.5, (3.0, 1): 1}
    assert ranked(trials(some), "max") == [0.1, 3.0, 1.0]
    assert ranked(trials(some), "min") == [3.0, 0.1, 1.0]
    assert ranked(trials({(1.0, 0): nan}), "min") == []


@given(st.lists(st.sampled_from(LADDER), min_size=1, unique=True))
def test_of_equal_rates_the_nearest_to_the_topics_own_wins(rates):
    order = ranked(trials({(rate, 0): 0.5 for rate in rates}), "max")
    distance = [abs(math.log(rate)) for rate in order]
    assert distance == sorted(distance) and set(order) == set(rates)


def test_rates_of_equal_value_are_told_apart_by_the_second_metric():
    by_rate = {0.3: 0.2, 1.0: 0.1, 3.0: 0.5, 10.0: math.nan}
    equal = [Trial(table.recipe(MSE), r, 9, 0, "done", 0.0, s) for r, s in by_rate.items()]
    assert ranked(equal, "max") == ranked(equal, "min") == [3.0, 0.3, 1.0, 10.0]
    assert ranked([*equal, equal[1]._replace(seed=1, value=0.1)], "max")[0] == 1.0


def test_a_best_rate_at_the_end_asks_for_the_next_one_beyond():
    values = {(rate, 0): rate for rate in tuning.GRID}
    assert outside(tuning.GRID, trials(values), "max") == 30.0
    assert outside(tuning.GRID, trials(values), "min") == 0.01
    inside = {(rate, 0): -abs(rate - 1) for rate in tuning.GRID}
    assert outside(tuning.GRID, trials(inside), "max") is None
    assert outside([1000.0], trials({(1000.0, 0): 1.0}), "max") is None
    assert outside([1.0], trials({(1.0, 0): math.nan}), "max") is None


def test_beyond_the_end_all_seeds_train():
    values = {(rate, seed): rate for rate in tuning.GRID for seed in (0, 1)}
    assert beyond(trials(values), "max", [0, 1]) == [(30.0, 0), (30.0, 1)]
    inside = {(rate, 0): -abs(rate - 1) for rate in tuning.GRID}
    assert beyond(trials(inside), "max", [0]) == []


def test_a_rate_that_ruins_the_next_seed_gives_way_to_one_that_does_not():
    lucky = {(10.0, 0): 1.4, (3.0, 0): 2.1, (1.0, 0): 4.2}
    assert set(confirming(trials(lucky), "min", [0])) == {(10.0, 0), (10.0, 1), (10.0, 2)}
    ruined = lucky | {(10.0, 1): 48.0, (10.0, 2): 1.7}
    assert set(confirming(trials(ruined), "min", [0])) == {(3.0, 0), (3.0, 1), (3.0, 2)}
    confirmed = ruined | {(3.0, 1): 2.0, (3.0, 2): 2.3}
    assert ranked(trials(confirmed), "min")[0] == 3.0
    assert set(confirming(trials(confirmed), "min", [0])) <= confirmed.keys()  # nothing is left


def test_a_seed_that_diverges_ruins_a_rate_too():
    some = {(10.0, 0): 1.4, (10.0, 1): math.nan, (10.0, 2): 1.4, (3.0, 0): 2.1}
    assert set(confirming(trials(some), "min", [0])) == {(3.0, 0), (3.0, 1), (3.0, 2)}
    assert len(confirming(trials(some), "min", range(5))) == 5
    assert confirming([], "min", [0]) == []


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A search, and then the same one again: its folder, and what the second one said."""
    folder = tmp_path_factory.mktemp("tune")
    cells, said = [MSE, replace(MSE, loss="huber")], []
    for lines in ([], said):
        tune({"toy": Slow()}, cells, folder, seeds=2, report=lines.append)
    return folder, said


def test_a_rate_is_found_that_serves_better_than_the_topics_own(tuned):
    folder, _ = tuned
    found = table.read(folder / "rates.csv")
    assert found.of(MSE) >= 10
    every = pd.read_csv(folder / "trials.csv")
    whole = every[(every["share"] == 1) & (every["loss"] == "mse")]
    assert whole["rate"].nunique() == 3 and 1.0 in set(whole["rate"])  # its own is among them
    assert set(whole["seed"]) == {0, 1, 2}
    assert set(whole[whole["rate"] == found.of(MSE)]["seed"]) == {0, 1, 2}
    best = whole.groupby("rate")["value"].mean()
    assert best.idxmin() == found.of(MSE)
    short = every[(every["share"] == 9) & (every["rate"] == 1.0) & (every["loss"] == "mse")]
    assert best.min() < short["value"].mean()


def test_the_table_says_what_it_stands_on(tuned):
    row = pd.read_csv(tuned[0] / "rates.csv").set_index("loss").loc["mse"]
    assert row["metric"] == "mse" and row["seeds"] == 3 and row["tried"] >= 2 * (6 + 3 + 2) + 1
    assert row["diverged"] == 0 and row["date"] and row["processor"] and row["torch"]


def test_a_search_goes_on_from_what_is_there(tuned):
    lines = [line for line in tuned[1] if line.startswith("cells to train")]
    assert lines and all(line.startswith("cells to train: 0;") for line in lines)


def test_another_search_keeps_what_the_first_one_found(tuned, tmp_path, monkeypatch):
    hinge = replace(MSE, loss="hinge")
    trial = Trial(table.recipe(hinge), 3.0, 1, 0, "done", 0.5, math.nan)
    monkeypatch.setattr(tuning, "_rung", lambda *_, **__: [trial])
    for name in ("rates.csv", "trials.csv"):
        (tmp_path / name).write_bytes((tuned[0] / name).read_bytes())
    first, said = table.read(tmp_path / "rates.csv").found, []
    tune({"toy": Slow()}, [hinge], tmp_path, report=said.append)
    both = table.read(tmp_path / "rates.csv")
    assert first.items() <= both.found.items() and len(both.found) == len(first) + 1
    assert set(both.evidence) == set(both.found)
    assert said[0].endswith("rates.csv: the rates of 2 recipes of earlier searches stay")


def test_an_earlier_table_that_is_none_is_refused_and_left(tmp_path):
    (tmp_path / "rates.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=r"rates.csv lacks the column topic: it is no table"):
        tune({"toy": Slow()}, [MSE], tmp_path)
    assert (tmp_path / "rates.csv").read_text() == "a,b\n1,2\n"
    assert [path.name for path in tmp_path.iterdir()] == ["rates.csv"]


def test_what_is_only_chosen_by_is_neither_reported_nor_saved(tuned):
    folder, _ = tuned
    assert not list(folder.rglob("*.pt"))
    records = [json.loads(path.read_text()) for path in folder.rglob("cells/*.json")]
    assert records and all(r["validation"] and not r["metrics"] for r in records)


def test_without_validation_data_it_looks_at_what_is_reported(tmp_path):
    tune({"toy": Unvalidated()}, [MSE], tmp_path, report=lambda line: None)
    assert pd.read_csv(tmp_path / "trials.csv")["value"].notna().all()


class Unvalidated(Slow):
    def validate(self, networks, cell):
        return {}
