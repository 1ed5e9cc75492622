"""``decathlon check`` in a project outside of the repository: what it prints, and its exit code."""

import os
import subprocess
import sys
from pathlib import Path

import faults
import pytest

import harness
from harness import cli
from harness.commands.check import _Lines
from harness.conformance import checks
from harness.conformance.finding import fails, holds
from harness.conformance.items import MARK
from harness.conformance.subject import Source

FAULTS = Path(faults.__file__)
ROOT = Path(harness.__file__).parents[1]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with topics in a module, and one in a conftest."""
    (tmp_path / "mine.py").write_text(FAULTS.read_text())
    (tmp_path / "conftest.py").write_text(
        "import mine\nimport numpy as np\n\nSHIFT = float(np.random.default_rng().normal())\n\n\n"
        "class Moody(mine.Clean):\n    name = 'moody'\n\n    def data(self):\n"
        "        x, y = super().data()\n        return x, y + SHIFT\n\n\n"
        "def pytest_decathlon_topics():\n    return [mine.Frozen(), Moody()]\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(project, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True
    )


def test_a_fault_is_one_line_and_exit_code_1(project):
    done = command(project, "-m", "harness", "check", "mine:NoBuffer")
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "mine: mlp, mse, cosine, batches of 8, on the CPU"
    (line,) = [line for line in lines if line.startswith("fails state: ")]
    assert "Running (model.between)" in line and "-> register_buffer" in line
    assert any(line.startswith("holds loss-falls: ") for line in lines)
    assert " do not apply (" in lines[-1] and "Traceback" not in done.stdout + done.stderr
    assert sorted(path.name for path in project.iterdir() if path.name[0] not in "._") == [
        "conftest.py",
        "mine.py",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["min:Clean"], "unknown module 'min': choose from mine"),
        (["mine:Clea"], "unknown name in mine 'Clea': choose from Clean"),
        (["mine:"], "'mine:' is no topic: write MODULE:NAME"),
        (["mine:RNG"], "mine:RNG gives Generator(PCG64)"),
        (["mine:Noise"], "mine:Noise cannot be called without arguments: TypeError"),
        (["mine:refused_at_once"], "topic 'own': models has 'a net', which is no name"),
        (["mine:refused"], "topic 'own': data: collate gives a list of 1"),
        (["mine:Clean", "--model", "mlo"], "unknown model 'mlo': choose from mlp"),
        (["mine:Clean", "--loss", "msee"], "unknown loss 'msee': choose from mse"),
        (["minee"], "unknown topic 'minee': choose from mine,"),
        (["mine", "nowhere"], "nowhere is not there"),
    ],
)
def test_bad_input_gets_one_line(arguments, said, project, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(project))
    assert cli.main(["check", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"decathlon: {said}") and error.count("\n") == 1


def test_a_module_that_raises_is_told_by_its_own_line(project, capsys, monkeypatch):
    (project / "broken.py").write_text("x = 1\ny = x.nothing\n")
    monkeypatch.syspath_prepend(str(project))
    assert cli.main(["check", "broken:Topic"]) == 2
    error = capsys.readouterr().err
    assert "broken cannot be imported: AttributeError" in error and "broken.py:2" in error
    assert error.count("\n") == 1


def test_a_module_whose_topic_is_refused_is_told_by_the_refusal(project, capsys, monkeypatch):
    (project / "refusing.py").write_text("import mine\n\nOWN = mine.refused_at_once()\n")
    monkeypatch.syspath_prepend(str(project))
    assert cli.main(["check", "refusing:OWN"]) == 2
    assert capsys.readouterr().err.startswith("decathlon: topic 'own': models has 'a net'")


def test_what_is_declared_wrong_is_the_only_finding(project, capsys, monkeypatch):
    (project / "wrong.py").write_text(
        "from mine import Clean\n\n\nclass Wrong(Clean):\n    name = 'No Name'\n"
    )
    monkeypatch.syspath_prepend(str(project))
    assert cli.main(["check", "wrong:Wrong"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("fails declared: ") and "No Name" in out


def test_the_command_leaves_the_gpus_that_are_seen_and_says_where_a_topic_is(
    project, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(str(project))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    seen = []
    monkeypatch.setattr(checks, "run_all", lambda it: seen.append((it.gpus, it.source)) or [])
    assert cli.main(["check", "moody", str(project)]) == 0
    assert seen == [("2,3", Source("moody", (str(project),)))]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"


class Terminal:
    """Output that is a terminal of an encoding."""

    def __init__(self, encoding):
        self.encoding, self.text = encoding, ""

    def isatty(self):
        return True

    def write(self, text):
        text.encode(self.encoding)
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize(("encoding", "marks"), [("utf-8", "✓✗"), ("ascii", ("ok", "FAIL"))])
def test_a_terminal_gets_marks_that_it_can_show(encoding, marks, monkeypatch):
    terminal = Terminal(encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
    lines = _Lines()
    lines.show("state", holds("all is equal"))
    lines.show("parity-fsdp_zero2", fails("a long text, " * 9, "a thing to do"))
    assert lines.end(0) == 1
    shown = terminal.text.splitlines()
    assert shown[0].startswith(marks[0]) and shown[1].startswith(marks[1])
    assert {row.index(word) for row, word in zip(shown, ("all", "a long"), strict=False)} == {
        shown[-2].index("->")
    }
    assert max(map(len, shown)) < 80


def test_a_marked_test_is_an_item_for_each_check(project):
    (project / "test_mine.py").write_text(
        "import pytest\n\n\n"
        f'@pytest.mark.{MARK}(topic="mine")\ndef test_mine():\n    pass\n\n\n'
        f'@pytest.mark.{MARK}(topic="mine:Trains")\ndef test_trains(finding):\n'
        "    assert finding.status == 'holds'\n\n\n"
        f'@pytest.mark.{MARK}(topic="moody")\ndef test_moody():\n    pass\n'
    )
    own = [f"test_mine.py::test_mine[{name}]" for name in ("gradients", "parity-ddp_bf16")]
    theirs = [f"test_mine.py::test_trains[{name}]" for name in ("declared", "evaluation")]
    theirs.append("test_mine.py::test_moody[deterministic]")
    done = command(project, "-m", "pytest", "-q", "-rfs", "-p", "no:cacheprovider", *own, *theirs)
    assert "2 failed, 2 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert "evaluation: evaluate changes model.between.running_mean" in done.stdout
    assert "deterministic: at step 1 y of the batch differs" in done.stdout  # the conftest's SHIFT
    assert "inexact by design" in done.stdout and "Traceback" not in done.stdout


def test_a_marked_test_of_a_refused_topic_fails_by_the_refusal(project):
    (project / "test_mine.py").write_text(
        "import pytest\n\n\n"
        f'@pytest.mark.{MARK}(topic="mine:refused")\ndef test_mine():\n    pass\n'
    )
    item = "test_mine.py::test_mine[loss-falls]"
    done = command(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", item)
    assert "\nloss-falls: topic 'own': data: collate gives a list of 1" in done.stdout
    assert "Error" not in done.stdout and "->" not in done.stdout


def test_a_marked_test_of_no_topic_is_an_error_in_one_line(project):
    (project / "test_mine.py").write_text(
        f'import pytest\n\n\n@pytest.mark.{MARK}(topic="minee")\ndef test_mine():\n    pass\n'
    )
    done = command(project, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 2 and "unknown topic 'minee': choose from mine" in done.stdout
