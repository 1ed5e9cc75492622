"""The table of learning rates, and trainings at them."""

import pytest
import torch
from toy import BUDGET, Toy
from toy_population import SHORT, Crowded

from harness.cell import Cell, UsageError
from harness.rates import Rates, shipped, table
from harness.run import Run
from harness.topics.registry import registered_topics
from harness.training.loop import Training
from harness.training.population.population import Population

HEADER = "topic,model,loss,schedule,rate,note\n"
ROW = "vgg,vgg11,ce,cosine"


def read(tmp_path, text):
    path = tmp_path / "rates.csv"
    path.write_text(text)
    return table.read(path)


def test_a_cell_trains_at_its_own_rate_else_its_recipes_else_1(tmp_path):
    rates = read(tmp_path, f"{HEADER}{ROW},0.3,why\n")
    cell = Cell("vgg", "vgg11", "ce", "cosine", "ddp", 4)
    assert rates.of(cell) == 0.3
    assert rates.of(Cell("vgg", "vgg11", "ce", "cosine", rate=2.0)) == 2.0
    assert rates.of(Cell("vgg", "vgg11", "ce", "constant")) == 1.0


def test_one_table_goes_over_another():
    a, b = Cell("t", "m", "ce", "cosine"), Cell("t", "m", "mse", "cosine")
    below = Rates({table.recipe(a): 0.1, table.recipe(b): 0.1})
    above = Rates({table.recipe(a): 3.0}).over(below)
    assert (above.of(a), above.of(b)) == (3.0, 0.1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("topic,model,loss,rate\n", "lacks the column schedule"),
        ("", "lacks the column topic"),
        (f"{HEADER}{ROW},fast,\n", "line 2: could not convert"),
        (f"{HEADER}{ROW},-1,\n", "line 2: rate -1.0"),
        (f"{HEADER}vgg,vgg11,ce\n", "line 2: "),
        (f"{HEADER}{ROW},1,\n{ROW},2,\n", "line 3: vgg/vgg11/ce/cosine is there twice"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, said):
    with pytest.raises(UsageError, match=said):
        read(tmp_path, text)


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.csv cannot be read"):
        table.read(tmp_path / "nowhere.csv")


def test_the_shipped_table_names_recipes_that_are_there():
    topics = registered_topics()
    for topic, model, _, _ in shipped().found:
        assert model in topics[topic].models


def test_training_multiplies_the_topics_own_rates():
    cell = Cell("toy", "line", "mse", "cosine")
    rates = {}
    for rate in (1.0, 0.3):
        training = Training(Toy(), cell, BUDGET, rate=rate)
        training.run(2)
        rates[rate] = torch.tensor(training.rates)
    assert torch.allclose(rates[0.3], 0.3 * rates[1.0])


def test_members_of_a_population_have_rates_of_their_own():
    some = [Cell("toy", "line", "mse", "cosine", seed=0, rate=rate) for rate in (0.1, 1.0, 2.0)]
    rates = [cell.rate for cell in some]
    trained = Population(Crowded(), some, SHORT, rates=rates)
    trained.run(SHORT.steps)
    trained.update_members()
    trained.update_histories()
    for member in trained.members:
        alone = Training(Crowded(), member.cell, SHORT, rate=member.cell.rate)
        alone.run(SHORT.steps)
        assert member.rates == pytest.approx(alone.rates)
        assert torch.stack(member.losses).allclose(torch.stack(alone.losses), rtol=1e-4)
    assert len({float(member.losses[-1]) for member in trained.members}) == 3


def test_a_rate_is_in_the_record_and_changes_the_fingerprint(tmp_path):
    cell = Cell("toy", "line", "mse", "cosine")
    faster = Rates({table.recipe(cell): 3.0})
    runs = [Run(tmp_path, {"toy": Toy()}, "smoke", rates=rates) for rates in (Rates(), faster)]
    assert runs[0].fingerprint(cell) != runs[1].fingerprint(cell)
    assert [run.task(cell).rate for run in runs] == [1.0, 3.0]
