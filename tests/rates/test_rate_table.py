"""The table of learning rates, and trainings at them."""

from dataclasses import replace

import pytest
import torch
from toy import BUDGET, Toy
from toy_population import SHORT, Crowded

from harness import project
from harness.cell import Cell, UsageError
from harness.rates import Rates, shipped, table
from harness.results import side_files
from harness.runs import Run
from harness.settings import Settings
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


def kept(folder):
    """Write a table of two recipes with three trainings for them, and one for another."""
    (folder / "rates.csv").write_text(f"{HEADER}{ROW},3,\nvgg,vgg11,mse,cosine,1,\n")
    rows = [
        f"vgg,vgg11,{loss},cosine,{rate},9,0,done,0.5,accuracy,max\n"
        for loss, rate in (("ce", 1), ("ce", 3), ("mse", 1), ("kl", 1))
    ]
    (folder / "trials.csv").write_text(",".join(table.EVIDENCE) + "\n" + "".join(rows))
    return table.read(folder / "rates.csv")


def test_what_a_table_rests_on_goes_to_the_folder_of_a_run(tmp_path):
    rates, out = kept(tmp_path), tmp_path / "run"
    out.mkdir()
    ce, mse = (Cell("vgg", "vgg11", loss, "cosine", "ddp", 1) for loss in ("ce", "mse"))
    rates.leave_evidence([ce], out)
    found = side_files.study(out, "trials")
    assert list(found["rate"]) == [1, 3] and set(found["loss"]) == {"ce"}
    rates.leave_evidence([replace(mse, rate=1.0)], out)  # its own rate: nothing was searched
    assert side_files.study(out, "trials").equals(found)
    rates.of_topics(["vae"]).leave_evidence([ce], out)
    assert side_files.study(out, "trials").equals(found)


def test_a_run_of_other_recipes_or_in_a_searchs_folder_loses_none(tmp_path):
    rates, out = kept(tmp_path), tmp_path / "run"
    out.mkdir()
    ce, mse = (Cell("vgg", "vgg11", loss, "cosine") for loss in ("ce", "mse"))
    rates.leave_evidence([ce], out)
    rates.leave_evidence([mse], out)
    assert list(side_files.study(out, "trials")["loss"]) == ["ce", "ce", "mse"]
    before = (tmp_path / "trials.csv").read_bytes()
    rates.leave_evidence([ce], tmp_path)
    assert (tmp_path / "trials.csv").read_bytes() == before


def test_a_table_without_its_trainings_is_still_a_table(tmp_path):
    kept(tmp_path)
    (tmp_path / "trials.csv").write_bytes(b"\xff\xfe")
    assert table.read(tmp_path / "rates.csv").evidence == {}


def test_shipped_rates_serve_the_data_and_budgets_that_they_were_found_with():
    own = registered_topics()
    found = project.rates_of(own, "quick", None).found
    assert found == shipped().found == project.rates_of(own, "race", None).found
    assert not project.rates_of(own, "full", None).found
    other = project.rates_of(registered_topics(dataset="mnist"), "quick", None).found
    assert {key[0] for key in other} <= {"regression", "rl"}
    assert not project.rates_of({"toy": Toy()}, "quick", None).found


def test_what_ships_is_what_its_trainings_say():
    trained = side_files.study(table.SHIPPED.parent, "trials")
    whole = trained[trained["share"] == 1]
    found = shipped().found
    assert found, "no rates ship"
    for (topic, model, loss, schedule), rate in found.items():
        own = whole[
            (whole["topic"] == topic)
            & (whole["model"] == model)
            & (whole["loss"] == loss)
            & (whole["schedule"] == schedule)
        ]
        of_rate = own.groupby("rate")["value"]
        alive = of_rate.count() / of_rate.size()
        by_rate = of_rate.mean()[alive == alive.max()]
        sign = 1 if set(own["direction"]) == {"max"} else -1
        assert sign * by_rate[rate] == (sign * by_rate).max(), (topic, model, loss, schedule)


def test_what_is_set_leaves_the_shipped_rates_unless_it_only_watches():
    own = registered_topics()
    told = [("vgg.steps", ["9"]), ("gan.looks", ["3"]), ("rl.gamma", ["0.9", "0.99"])]
    settings = Settings.of(told, own)
    found = project.rates_of(settings.applied(own), "quick", None, settings).found
    assert {key[0] for key in shipped().found} - {key[0] for key in found} == {"vgg", "rl"}
