"""The command that tunes: which recipes it takes, and what it refuses."""

import pytest

from harness import cli, project
from harness.cell import Cell, UsageError
from harness.commands.tune import matching, worth
from harness.topics.registry import registered_topics

CELLS = [Cell("vgg", "vgg11", loss, "cosine") for loss in ("ce", "mse")]


def test_an_expression_chooses_as_pytests_does():
    assert matching(CELLS, None) == CELLS
    assert matching(CELLS, "VGG and not mse") == CELLS[:1]
    assert matching(CELLS, "vgg11-mse") == CELLS[1:]


def test_only_what_has_a_learning_rate_is_tuned():
    some = [
        Cell("regression", "tree", "mse", "constant"),
        Cell("regression", "mlp", "mse", "constant", "ddp"),
        Cell("regression", "mlp", "mse", "constant", seed=4),
        Cell("vgg", "vgg11", "ce", "adam"),
    ]
    assert worth(registered_topics(), some) == [Cell("regression", "mlp", "mse", "constant")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-k", "vgg and and"], "-k 'vgg and and': expected"),
        (["-k", "nix"], "-k 'nix' matches no recipe"),
        (["nowhere"], "nowhere is not there"),
        (["--seeds", "0"], "seeds 0: it must be 1 or more"),
        (["--profile", "quik"], "unknown profile 'quik': choose from quick"),
    ],
)
def test_bad_input_gets_one_line(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["tune", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"decathlon: {said}") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_given_table_goes_over_the_shipped_one(tmp_path):
    path = tmp_path / "rates.csv"
    path.write_text("topic,model,loss,schedule,rate\nvgg,vgg11,ce,cosine,30\n")
    topics = registered_topics()
    assert project.rates_of(topics, "quick", str(path)).of(CELLS[0]) == 30
    with pytest.raises(UsageError, match="cannot be read"):
        project.rates_of(topics, "quick", str(tmp_path / "none.csv"))


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("vg,vgg11,ce,cosine", "unknown topic 'vg': choose from vgg"),
        ("vgg,vgg12,ce,cosine", "unknown model 'vgg12'"),
        ("vgg,vgg11,ce,cosin", "unknown schedule 'cosin': choose from cosine"),
    ],
)
def test_a_table_for_recipes_that_are_not_there_is_refused(tmp_path, recipe, said):
    path = tmp_path / "rates.csv"
    path.write_text(f"topic,model,loss,schedule,rate\n{recipe},30\n")
    with pytest.raises(UsageError, match=f"rates .*rates.csv: {said}"):
        project.rates_of(registered_topics(), "quick", str(path))
