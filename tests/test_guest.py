"""The installed plugin in projects that have nothing to do with it, or options of their own."""

import json

import pytest

FOREIGN = """
def pytest_addoption(parser):
    parser.addoption("--env", default="staging", help="which deployment")
    parser.addoption("--plan", action="store_true")
"""
TEST = """
import sys

def test_ok(request):
    assert request.config.getoption("--env") == "prod"
    slow = {"torch", "pandas", "numpy", "gymnasium", "sklearn", "torchvision", "plotly", "tqdm"}
    assert not slow & {name.split(".")[0] for name in sys.modules}
"""
MARKED = """
import pytest

@pytest.mark.decathlon(topic="regression")
def test_cell(record):
    pass
"""


@pytest.fixture
def foreign(pytester):
    pytester.makeconftest(FOREIGN)
    return pytester


def test_a_project_keeps_its_own_options_and_imports_nothing_of_ours(foreign, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others import what they like
    foreign.makepyfile(test_own=TEST)
    result = foreign.runpytest_subprocess("--env", "prod", "-p", "harness.plugin")
    result.assert_outcomes(passed=1)


def test_options_are_there_by_their_long_names_and_where_free_by_short_ones(foreign):
    foreign.makepyfile(test_own=MARKED)
    asked = ("--decathlon-plan", "--env", "prod", "--profile", "smoke", "-k", "linear")
    result = foreign.runpytest_subprocess(*asked)
    result.stdout.fnmatch_lines(["train regression/linear-mse-cosine-single-s0: about *"])
    text = foreign.runpytest_subprocess("--help").stdout.str()
    assert "--decathlon-env" in text and "--run-dir" in text
    assert text.count("  --env=") == 1 and text.count("  --plan") == 1


def test_a_value_of_ours_is_no_path_to_collect_from(foreign):
    inner = foreign.mkdir("inner")
    (inner / "conftest.py").write_text("def pytest_addoption(parser): parser.addoption('--own')")
    foreign.makepyfile(test_own="def test_ok(pytestconfig): assert pytestconfig.option.own == '1'")
    foreign.mkdir("smoke")  # a folder by a profile's name
    asked = ("--own", "1", "--profile", "smoke", "inner", "test_own.py")
    foreign.runpytest_subprocess(*asked).assert_outcomes(passed=1)


def test_a_value_of_ours_that_would_move_the_project_is_refused(pytester, tmp_path):
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\ntestpaths = 'inner'")
    pytester.mkdir("inner").joinpath("test_own.py").write_text(
        "def test_ok(pytestconfig): assert pytestconfig.rootpath.name.startswith('test_a_value')"
    )
    pytester.makepyfile(test_other="def test_no(): assert False")
    for flag in ("--run-dir", "--data-dir", "--decathlon-run-dir"):
        result = pytester.runpytest_subprocess(flag, str(tmp_path))
        assert result.ret == 4 and "no tests ran" not in result.stdout.str()
        (line,) = filter(None, result.stderr.lines)
        assert line.endswith(
            f", which is {pytester.path} (pyproject.toml): write {flag}={tmp_path}"
        )
    pytester.mkdir("here")
    own = ("--rootdir", ".", "--data-dir", str(tmp_path), "--run-dir=out dir", "--rates", "here")
    result = pytester.runpytest_subprocess(*own)
    assert result.stderr.lines[0].endswith(f"write --data-dir={tmp_path} --rates=here")
    for allowed in ([f"--run-dir={tmp_path}"], ["--run-dir", "here"], ["--run-dir", "../nowhere"]):
        pytester.runpytest_subprocess(*allowed).assert_outcomes(passed=1)


def test_a_project_s_own_option_by_a_name_of_ours_may_move_it(foreign, tmp_path):
    foreign.makeconftest(FOREIGN.replace("--env", "--data-dir"))
    foreign.makepyprojecttoml("[tool.pytest.ini_options]")
    foreign.makepyfile(test_own="def test_ok(): pass")
    foreign.runpytest_subprocess("--data-dir", str(tmp_path)).assert_outcomes(passed=1)


def test_every_worker_of_xdist_would_train_every_cell(pytester):
    pytester.makepyfile(test_own=MARKED)
    result = pytester.runpytest_subprocess("-n", "2", "--profile", "smoke")
    result.stdout.fnmatch_lines(["decathlon: *leave -n out"])
    assert result.ret == 2 and "Traceback" not in result.stdout.str()
    assert not (pytester.path / "results").exists()


def test_xdist_is_welcome_where_there_are_no_cells(pytester):
    pytester.makepyfile(test_own="def test_ok(): pass")
    pytester.runpytest_subprocess("-n", "2").assert_outcomes(passed=1)


def test_record_without_a_mark_is_said(pytester):
    pytester.makepyfile(test_own="def test_cell(record): pass")
    result = pytester.runpytest_subprocess("--profile", "smoke")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_cell takes record, and must be marked decathlon(topic=*"])
    assert "Traceback" not in result.stdout.str()


def test_a_mark_without_record_is_said_at_collection(pytester):
    pytester.makepyfile(test_own=MARKED.replace("record", ""))
    result = pytester.runpytest_subprocess("--profile", "smoke")
    result.stdout.fnmatch_lines(
        ["*test_cell is marked decathlon and must take the fixture record*"]
    )
    assert result.ret == 2


def test_what_concerns_all_files_is_said_once(pytester):
    pytester.makepyfile(test_own=MARKED, test_two=MARKED)
    result = pytester.runpytest_subprocess("--profile", "quik")
    text = result.stdout.str()
    assert result.ret == 2 and text.count("decathlon: unknown profile 'quik'") == 1
    assert "harness/" not in text  # no frames of ours
    assert "ERROR collecting" not in text


def test_a_hook_of_the_project_that_raises_is_shown_once(pytester):
    pytester.makeconftest("def pytest_decathlon_topics():\n    raise ValueError('planted')")
    pytester.makepyfile(test_own=MARKED, test_two=MARKED)
    result = pytester.runpytest_subprocess("--profile", "smoke")
    result.assert_outcomes(errors=1)
    assert result.ret == 2 and result.stdout.str().count("E   ValueError: planted") == 1


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (("--device", "gpu"), "unknown device 'gpu': choose from cpu, cuda"),
        (("--device", "cuda"), "device cuda: PyTorch sees no GPU here; choose cpu"),
        (("--per-gpu", "4"), "per gpu 4: there is no GPU here for trainings to share"),
        (("--per-gpu", "0"), "per gpu 0: it must be 1 or more"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(pytester, monkeypatch, told, says):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    pytester.makepyfile(test_own=MARKED)
    result = pytester.runpytest_subprocess("--profile", "smoke", *told)
    text = result.stdout.str() + result.stderr.str()
    assert result.ret == 2 and "Traceback" not in text and f"decathlon: {says}" in text


def test_a_record_says_on_which_device_to_train_it_again(pytester):
    pytester.makepyfile(test_own=MARKED)
    asked = ("--profile", "smoke", "-k", "tree", "--device", "cpu")
    pytester.runpytest_subprocess(*asked).assert_outcomes(passed=1)
    (kept,) = pytester.path.rglob("cells/**/*.json")
    assert "--device cpu" in json.loads(kept.read_text())["command"]
