"""What a project sets by itself in its pyproject.toml."""

import pytest

from harness import pyproject
from harness.cell import UsageError
from harness.options import RunOptions

TABLE = """
[tool.decathlon]
profile = "smoke"
world_size = 4
minutes = 10
run_dir = "out"

[tool.decathlon.set]
vgg.width = 32
"vgg.dataset" = "mnist"
mine.optimizer.lr = [1e-3, 0.01]
mine.sizes = "64+64"
mine.bias = true
"""


def read(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    return pyproject.read(tmp_path)


def test_options_and_settings_are_read(tmp_path):
    found = read(tmp_path, TABLE)
    assert found.settings == [
        ("vgg.width", ["32"]),
        ("vgg.dataset", ["mnist"]),
        ("mine.optimizer.lr", ["0.001", "0.01"]),
        ("mine.sizes", ["64+64"]),
        ("mine.bias", ["true"]),
    ]
    told = found.run_options({"profile": "quick", "world_size": 3})
    assert told == RunOptions("quick", run_dir=str(tmp_path / "out"), world_size=3)


def test_minutes_are_for_races_and_seeds_for_all_else(tmp_path):
    found = read(tmp_path, "[tool.decathlon]\nminutes = 10\nseeds = 4")
    assert found.run_options({"profile": "race"}) == RunOptions("race", minutes=10)
    assert found.run_options({}) == RunOptions(seeds=4)


@pytest.mark.parametrize("text", ["", "[tool.other]\nprofile = 1", "[project]\nname = 'x'"])
def test_a_project_without_the_table_sets_nothing(tmp_path, text):
    assert read(tmp_path, text) == pyproject.Configured()
    assert pyproject.read(tmp_path / "nowhere") == pyproject.Configured()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("profle = 'smoke'", "unknown key in .*decathlon 'profle': choose from profile"),
        ("world_size = '4'", "tool.decathlon.world_size = '4': it takes a whole number"),
        ("rerun = 1", "tool.decathlon.rerun = 1: it takes true or false"),
        ("set = 3", "tool.decathlon.set = 3: a table is needed"),
        ("[tool.decathlon.set]\nwidth = 3", "set.width = 3: it reads TOPIC.FIELD = VALUE"),
        ("[tool.decathlon.set]\nvgg.width = []", r"set.vgg.width = \[\]: a number, a text"),
        ("[tool.decathlon.set]\nvgg.width = [[1, 2]]", "a tuple is a text"),
        ("[tool.decathlon.set]\nvgg.width = nan", "set.vgg.width = nan: a number"),
        ("[tool.decathlon.set]\nvgg.width = 2026-01-01", "set.vgg.width = datetime"),
        ("profile = ", "pyproject.toml cannot be read: "),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(tmp_path, text, says):
    with pytest.raises(UsageError, match=says) as error:
        read(tmp_path, f"[tool.decathlon]\n{text}")
    assert "\n" not in str(error.value)


def test_a_decathlon_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(UsageError, match="tool.decathlon = 3: a table is needed"):
        read(tmp_path, "[tool]\ndecathlon = 3")
