"""The search for each recipe's rate."""

import json
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pandas as pd
import pytest
from toy import Toy

from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell, UsageError
from harness.rates import table
from harness.studies import tuning
from harness.studies.ladder import GRID, Trial
from harness.studies.tuning import summary, tune

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


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A search, and then the same one again: its folder, and what the second one said."""
    folder = tmp_path_factory.mktemp("tune")
    cells, said = [MSE, replace(MSE, loss="huber")], []
    for lines in ([], said):
        tune({"toy": Slow()}, cells, folder, seeds=2, report=lines.append)
    return folder, said


def test_what_was_found_is_said_with_the_best_recipe_first(tuned):
    folder, said = tuned
    found = pd.read_csv(folder / "rates.csv").sort_values("value")
    at = said.index("toy/line: rate, and mean validation mse over 3 seeds")
    for line, row in zip(said[at + 1 :], found.itertuples(), strict=True):
        assert line.split() == [row.loss, row.schedule, f"{row.rate:g}", f"{row.value:.4g}"]


def test_a_recipe_that_no_rate_trains_is_said_to():
    lost = Trial(table.recipe(MSE), 1.0, 1, 0, "diverged", math.nan, math.nan)
    lines = summary(
        [lost, lost._replace(recipe=("toy", "line", "ce", "cosine"), value=2.0)], {"toy": Slow()}
    )
    assert [line.split()[:3] for line in lines[1:]] == [
        ["ce", "cosine", "1"],
        ["mse", "constant", "nothing"],
    ]


def test_trainings_without_a_finite_metric_are_counted_where_rates_are_told():
    key, nan = ("toy", "line", "mse", "cosine"), math.nan
    short = [Trial(key, rate, 9, 0, "unmeasured", nan, nan) for rate in GRID]
    own = [Trial(key, 1.0, 1, seed, "done", 0.5, nan) for seed in range(3)]
    lines = summary(short + own, {"toy": Toy()})
    assert lines[1].split(maxsplit=3)[2:] == ["1", "0.5 (6 of 9 trainings have no finite mse)"]
    nothing = summary([t._replace(share=1) for t in short], {"toy": Toy()})
    assert nothing[1].endswith("no rate is found (6 of 6 trainings have no finite mse)")


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
