"""Cells of one folder that are of another experiment are named, and ranked with no others."""

import pandas as pd
import pytest
from test_tables import record
from toy import Toy

import harness
from harness import Cell, compare
from harness.results import dashboard, outdated, tables
from harness.results.columns import STUDIES, Tables
from harness.results.dashboard import race
from harness.results.effects import effects
from harness.results.summary import summary
from harness.results.transfer import transfer

OLD, NEW = "2026-11-24T09:00:00", "2026-11-25T09:00:00"


def why(old, new=None):
    """Why the first of two cells is not ranked beside the second, which was trained later."""
    first = record(started=OLD, setup="vgg=1", loss="mae") | old
    frame = tables.cells([first, record(started=NEW, setup="vgg=1") | (new or {})])
    assert frame["outdated"][1] == ""
    return frame["outdated"][0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({}, {}, ""),
        ({"setup": "vgg=2"}, {}, "other code or fields"),
        ({"setup": "vgg=1 vgg.fields=2"}, {"setup": "vgg=1 vgg.fields=3"}, "other code or fields"),
        ({"setup": ""}, {}, "other code or fields"),  # of an earlier version
        ({"setup": ""}, {"setup": ""}, ""),
        ({"setup": "vgg=1 focal=2"}, {}, ""),  # its own loss, which the other has not
        ({"setup": "vgg=1 focal=2"}, {"setup": "vgg=1 focal=3"}, "other code or fields"),
        ({"setup": "vgg=1 vgg.data=2"}, {"setup": "vgg=1 vgg.data=3"}, "other data"),
        ({"setup": "vgg=2 vgg.data=2"}, {"setup": "vgg=1 vgg.data=3"}, "other data"),
        ({"setup": "vgg=1 budget.a=2"}, {"setup": "vgg=1 budget.a=3"}, "another budget"),
        ({"setup": "vgg=1 budget.a=2"}, {"setup": "vgg=1 budget.b=3"}, ""),  # another model's
        ({"status": "skipped", "setup": "vgg=2"}, {}, ""),
        ({"status": "failed", "setup": "vgg=2"}, {}, "other code or fields"),
        ({"topic": "gan", "setup": "gan=2"}, {}, ""),
    ],
)
def test_a_cell_of_another_experiment_says_what_it_has(old, new, said):
    assert why(old, new) == said


def test_what_was_asked_for_last_counts_though_it_was_not_trained_last():
    rows = [record(started=OLD, setup="vgg=1", loss="mae"), record(started=NEW, setup="vgg=2")]
    now = {"vgg": {"vgg": "1", "vgg.data": "3"}, "gan": {"gan": "2"}}
    assert list(tables.cells(rows, setups=now)["outdated"]) == ["", "other code or fields"]


def test_what_is_outdated_has_no_part_in_what_is_said():
    old = [record(loss="mae", seed=s, started=OLD, setup="vgg=1") for s in range(3)]
    new = [record(seed=s, started=NEW, setup="vgg=2") for s in range(3)]
    cells = tables.cells([*old, *new])
    found = summary(cells)
    assert set(found["loss"]) == {"ce"} and set(found["standing"]) == {"only", ""}
    assert len(transfer(cells)) == 0
    page = dashboard.render(Tables(cells, tables.curves([]), found, effects(cells)), "t")
    said = "3 cells have other code or fields than those asked for last, and no part in what"
    assert said in page and "mae-cosine-single-s2" in page
    assert outdated.lines(cells) == [
        "vgg: 3 cells have other code or fields than those asked for last: not ranked with them"
    ]


def test_a_race_of_earlier_code_is_not_shown():
    rows = [dict.fromkeys(STUDIES["answers"]) | {"setup": f"vgg={n}"} for n in (1, 2)]
    cells = tables.cells([record(setup="vgg=2")])
    assert race.current(pd.DataFrame(rows), cells)["setup"].tolist() == ["vgg=2"]
    assert race.current(None, cells) is None


def test_a_run_into_a_folder_of_another_topic_s_cells_ranks_its_own_alone(tmp_path, capsys):
    chosen = {"models": ["line"], "schedules": ["constant"]}
    folder = tmp_path / "run"
    topic = Toy()
    harness.run(topic, "smoke", folder=folder, losses=["mse", "mae"], **chosen)
    assert "asked for last" not in capsys.readouterr().out
    fewer = {"losses": ["mse"], "settings": {"toy.steps": 9}}
    found = harness.run(topic, "smoke", folder=folder, **fewer, **chosen)
    line = "toy: 1 cell has another budget than those asked for last: not ranked with them"
    assert line in capsys.readouterr().out
    assert set(found.summary["loss"]) == {"mse"} and len(found.cells) == 2
    assert {Cell.parse(name).loss for name in found.records} == {"mse", "mae"}
    again = harness.run(topic, "smoke", folder=folder, losses=["mae"], **chosen)
    assert "reused: 1 of 1" in capsys.readouterr().out
    assert set(again.summary["loss"]) == {"mae"}  # of the first experiment, as this run is
    other = harness.run(topic, "smoke", folder=tmp_path / "b", losses=["mae", "mse"], **chosen)
    with pytest.warns(UserWarning, match="1 cell has another budget"):
        verdict = compare(other, found)
    assert str(verdict.verdict) == "not whole"
