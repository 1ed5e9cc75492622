"""``decathlon run`` in folders that have nothing of ours but a conftest, or not even that."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli, plugin
from harness.commands import run

TOY = (Path(__file__).parents[1] / "toy.py").read_text()
RETURNED = "\n\ndef pytest_decathlon_topics():\n    return [Toy()]\n"
CONFTEST = f"from mine.toy import Toy{RETURNED}"
SETTINGS = """
[tool.pytest.ini_options]
pythonpath = ["src"]
testpaths = ["checks"]
python_files = "check_*.py"
python_functions = "check_*"
addopts = "-n 4 --no-such-option --strict-markers"
filterwarnings = ["error"]
"""
EXPERIMENT = """
import pytest

@pytest.mark.decathlon(topic="regression")
def test_its_own(record):
    pass
"""


def decathlon(folder, *words):
    command = [sys.executable, "-m", "harness", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done


def test_a_conftest_is_enough_to_train_a_topic_in_a_project_with_settings_of_its_own(tmp_path):
    (tmp_path / "src/mine").mkdir(parents=True)
    (tmp_path / "src/mine/toy.py").write_text(TOY)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    (tmp_path / "out").mkdir()  # which pytest would look for settings in, were it a path
    cell = "toy/line-mse-cosine-single-s0"
    asked = ("run", "--profile", "smoke", "--run-dir", "out", "-k", "toy and line and single", "-v")
    done = decathlon(tmp_path, *asked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"test_own.py::test_own[{cell}] PASSED" in done.stdout
    assert f"{tmp_path / 'pyproject.toml'} are for tests: left out" in done.stdout
    assert (tmp_path / "out/index.html").exists() and (tmp_path / "out/cells.csv").exists()
    done = decathlon(tmp_path, "replay", cell, "--profile", "smoke", "--run-dir", "out")
    assert "the same numbers, bit for bit" in done.stdout, done.stdout + done.stderr


def test_a_topic_none_of_whose_cells_is_chosen_stops_no_project_that_forbids_empty_tests(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\nempty_parameter_set_mark = fail_at_collect\n")
    done = decathlon(tmp_path, "run", "--profile", "smoke", "--plan", "--model", "vgg11")
    assert done.returncode == 0 and "train vgg/vgg11-" in done.stdout, done.stdout + done.stderr


BROKEN = """

@dataclass(frozen=True)
class Broken(Toy):
    name: ClassVar[str] = "broken"

    def prepare(self):
        from harness import UsageError

        raise UsageError("there is no such file")


def pytest_decathlon_topics():
    return [Toy(), Broken()]
"""


def test_a_topic_without_its_data_stops_no_run_of_another(tmp_path):
    (tmp_path / "conftest.py").write_text(f"{TOY}{BROKEN}")
    asked = ("run", "--profile", "smoke", "--plan", "-q", "-k")
    done = decathlon(tmp_path, *asked, "toy/line")
    assert done.returncode == 0 and "train toy/line-" in done.stdout, done.stdout + done.stderr
    done = decathlon(tmp_path, *asked, "toy or broken")
    assert done.returncode == 2 and "decathlon: there is no such file" in done.stdout
    assert not (tmp_path / "results").exists()


def test_without_topics_of_one_s_own_only_what_is_built_in_is_collected(tmp_path):
    asked = ("run", "--profile", "smoke", "--collect-only", "-q")
    done = decathlon(tmp_path, *asked, "-k", "test_own or (vgg11 and single)")
    assert done.returncode == 0 and "test_own" not in done.stdout
    assert "test_vgg.py::test_vgg[vgg/vgg11-ce-one_cycle-single-s0]" in done.stdout
    assert "1/" in done.stdout and not (tmp_path / "results").exists()


@pytest.fixture
def outer(tmp_path):
    """A folder of an experiment, and below it, collected later, of a conftest with a topic."""
    deep = tmp_path / "Müller & Söhne/deep"
    deep.mkdir(parents=True)
    (deep / "conftest.py").write_text(TOY + RETURNED)
    (deep.parent / "a_test.py").write_text(EXPERIMENT)
    return deep.parent


def collected(folder, *words):
    """The ids of the items that ``decathlon run`` makes of these paths."""
    done = decathlon(folder, "run", *words, "--profile", "smoke", "--collect-only", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "::" in line]


CELLS = ("line-mse-cosine-single", "dropout-mse-cosine-single", "line-mse-cosine-ddp")
TOYS = [f"test_own.py::test_own[toy/{cell}-s0]" for cell in CELLS]


def test_topics_of_conftests_below_a_folder_are_trained_without_an_experiment(outer):
    given = collected(outer.parent, outer.name)
    assert given[-3:] == TOYS and len(given) > 3
    assert {name.split("[")[0] for name in given[:-3]} == {f"{outer.name}/a_test.py::test_its_own"}
    cell = "toy/line-mse-cosine-single-s0"
    asked = ("--profile", "smoke", "--run-dir", "out")
    done = decathlon(outer.parent, "run", outer.name, *asked, "-k", "toy and line and single")
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
    done = decathlon(outer.parent, "replay", cell, *asked)
    assert "the same numbers, bit for bit" in done.stdout, done.stdout + done.stderr


def test_a_conftest_as_a_path_is_its_folder_and_a_test_file_is_itself_alone(outer):
    assert collected(outer.parent, f"{outer.name}/deep/conftest.py") == TOYS
    assert not set(TOYS) & {*collected(outer.parent, f"{outer.name}/a_test.py")}


def test_a_topic_that_a_folder_s_experiment_is_for_is_trained_by_that_alone(outer):
    own = EXPERIMENT.replace("regression", "toy")
    (outer / "deep/test_mine.py").write_text(own)
    named = [name.split("::")[1].split("[")[0] for name in collected(outer / "deep", ".")]
    assert named == ["test_its_own"] * 3


def test_a_folder_s_topics_are_those_of_its_conftests_not_of_folders_above(outer):
    (outer / "other").mkdir()
    (outer / "conftest.py").write_text((outer / "deep/conftest.py").read_text())
    (outer / "deep/conftest.py").unlink()
    done = decathlon(outer, "run", "other", "--profile", "smoke")
    assert done.returncode == 5
    said = f"decathlon: no conftest.py gives a topic, and no test is marked, in {outer / 'other'}"
    assert said in done.stdout


def test_paths_are_collected_in_place_of_ours(tmp_path):
    (tmp_path / "test_mine.py").write_text(EXPERIMENT)
    asked = ("run", "test_mine.py", "--profile", "smoke", "--collect-only", "-q", "-k", "tree")
    done = decathlon(tmp_path, *asked)
    (line,) = [line for line in done.stdout.splitlines() if "::" in line]
    assert line == "test_mine.py::test_its_own[regression/tree-mse-constant-single-s0]"


FIXTURES = """
import pytest

@pytest.fixture
def record():
    return {"mine": 1}

benchmark = finding = topic = name = timed = record
"""


def test_a_project_s_fixtures_are_not_what_our_experiments_use(tmp_path):
    (tmp_path / "conftest.py").write_text(TOY + FIXTURES + RETURNED)
    cell = "regression/tree-mse-constant-single-s0"
    asked = ("--profile", "smoke", "-k", "(toy and line and single) or tree or throughput")
    done = decathlon(tmp_path, "run", *asked)
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout + done.stderr
    marked = EXPERIMENT.replace("record", "decathlon_record, record")
    (tmp_path / "test_mine.py").write_text(marked.replace("pass", 'assert record == {"mine": 1}'))
    done = decathlon(tmp_path, "run", "test_mine.py", "-v", *asked)
    assert f"test_mine.py::test_its_own[{cell}] PASSED" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--profile", "quik"), 2, "decathlon: unknown profile 'quik': choose from quick"),
        (("--loss", "crossentropy", "."), 2, "decathlon: unknown loss 'crossentropy': choose from"),
        (("-n", "2"), 2, "decathlon: cells run in processes of their own: leave -n out"),
        (("-k", "mien"), 5, "decathlon: -k 'mien' matches nothing of the topics gan, multitask,"),
        (("nowhere",), 4, "file or directory not found: nowhere"),
    ],
)
def test_bad_input_is_said_in_a_line_and_the_exit_code_is_pytests(tmp_path, words, code, said):
    done = decathlon(tmp_path, "run", *words)
    assert done.returncode == code and said in done.stdout + done.stderr
    assert "ERROR collecting" not in done.stdout  # it concerns no file
    assert not (tmp_path / "results").exists()


def test_its_help_has_every_option_of_the_plugin(capsys):
    assert cli.main(["run", "-k", "mine", "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: decathlon run [PATHS]")
    flags = [plugin.options.flag(name) for name in plugin.options.fields(plugin.OPTIONS)]
    assert not [flag for flag in flags if f"  {flag}" not in said]


def test_an_option_and_its_value_become_one_word_and_nothing_else_does():
    words = [
        "--run-dir",
        "out",
        "--rerun",
        "a",
        "-k",
        "b",
        "--decathlon-env",
        "c",
        "--seeds=2",
        "d",
    ]
    joined = ["--run-dir=out", "--rerun", "a", "-k", "b", "--decathlon-env=c", "--seeds=2", "d"]
    assert run._joined(words) == joined
    assert run._joined(["--rates"]) == ["--rates"]


def test_the_first_screen_names_every_command_and_its_first_steps(capsys):
    assert cli.main([]) == 0
    said = capsys.readouterr().out
    assert "decathlon run --profile smoke" in said
    for command in ("run", "check", "compare", "replay", "train", "evaluate", "sample", "tune"):
        assert f"\n    {command}  " in said


def test_the_version_is_the_package_s(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == cli.version("torch-decathlon")
