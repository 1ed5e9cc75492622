"""What a topic's methods return that no training can be made of is refused in one line."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from toy import BUDGET, Toy

import harness
from harness.cell import Cell, UsageError
from harness.runs import Run
from harness.training.loop import Training

CELL = Cell("toy", "line", "mse", "cosine")


def players(change):
    return lambda self, cell: change(Toy.players(self, cell))


WRONG = {
    "networks returned a Linear: a dict": {"networks": lambda self, cell: nn.Linear(3, 1)},
    "networks returned None: a dict": {"networks": lambda self, cell: None},
    "networks returned 'model': a type; a dict": {
        "networks": lambda self, cell: {"model": nn.Linear}
    },
    "players returned a Player: a list": {"players": players(lambda made: made[0])},
    "players returned a list: a list": {"players": lambda self, cell: []},
    "players returned a str: a list": {"players": lambda self, cell: ["model"]},
    r"player 'line' moves networks='model': a tuple of names is needed, \('model',\)": {
        "players": players(lambda made: [replace(made[0], name="line", networks="model")])
    },
    "player 'line' moves network 'net', and networks returned model": {
        "players": players(lambda made: [replace(made[0], name="line", networks=("net",))])
    },
    "players returned two of the name 'line': each needs its own": {
        "players": players(lambda made: [replace(made[0], name="line")] * 2)
    },
    "batches returned a DataLoader, which has no draw: a Batches is needed": {
        "batches": lambda self, *_: torch.utils.data.DataLoader(torch.arange(3.0))
    },
    "batches returned a generator, which has no draw": {
        "batches": lambda self, *_: (batch for batch in ())
    },
}


@pytest.mark.parametrize("line", WRONG)
def test_each_is_named(line):
    kind = type("Wrong", (Toy,), WRONG[line])
    with pytest.raises(UsageError, match=line):
        Training(kind(), CELL, BUDGET)


@pytest.mark.parametrize(("given", "told"), [(None, "None"), (3, "a int"), ("", "''")])
def test_a_name_of_data_that_is_no_text_is_refused_before_anything_trains(tmp_path, given, told):
    kind = type("Wrong", (Toy,), {"dataset_id": lambda self: given})
    run = Run(tmp_path, {"toy": kind()}, "smoke")
    with pytest.raises(UsageError, match=f"topic toy: dataset_id returned {told}: text is needed"):
        run.start([CELL])
    run.close()
    assert not list(tmp_path.rglob("*.pt"))


def test_a_run_is_not_compared_with_itself(tmp_path):
    told = {"select": [CELL], "folder": tmp_path}
    first, second = harness.run(Toy(), "smoke", **told), harness.run(Toy(), "smoke", **told)
    for other in (second, tmp_path / ".." / tmp_path.name):
        with pytest.raises(UsageError, match=r"both runs are of .*, which holds the later one"):
            harness.compare(first, other)
