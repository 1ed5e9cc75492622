"""``harness.run`` as a stranger calls it: from a script, a prompt, a notebook's kernel."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from brought import Focal
from toy import Toy

import harness
from harness import UsageError
from harness.cell import Budget, Cell
from harness.execution.process import packed
from harness.results.lock import FolderLock
from harness.trial.task import Task

TOY = (Path(__file__).parents[1] / "toy.py").read_text()
TOPIC = (
    TOY.partition("\n\ndef outcome(")[0].replace("import pytest\n", "")
    + """

SLOPE = 0.25


@functools.cache
def table(seed):
    open("reads", "a").write(f"{os.getpid()}\\n")
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(seed))
    return x, x @ torch.tensor([1.0, -0.5, SLOPE])


@dataclass(frozen=True)
class Mine(Toy):
    name: ClassVar[str] = "mine"

    def _data(self, seed=0):
        return table(seed)


@dataclass(frozen=True)
class Doubled(harness.Loss):
    name: ClassVar[str] = "doubled"

    def numeric(self, low, high, bins, *, epsilon, delta):
        return harness.Form("doubled", 1, loss, decode=lambda outputs_NW: outputs_NW[..., 0])


def loss(outputs_NW, target_N):
    return 2 * (outputs_NW[..., 0] - target_N) ** 2
"""
)
TOPIC = TOPIC.replace("import os\n", "import functools\nimport os\n")
CALL = """
print("main runs")
chosen = ["mse", Doubled()]
found = harness.run(Mine(), "smoke", losses=chosen, models=["line"], seeds=[0, 3])
print(found, found.network("mine/line-doubled-cosine-single-s3"), file=sys.stderr)
"""
PLAIN = TOPIC.replace("from __future__ import annotations", "import sys\nimport harness")
UNGUARDED = PLAIN + CALL
GUARDED = UNGUARDED.replace(CALL, '\nif __name__ == "__main__":' + CALL.replace("\n", "\n    "))


def python(folder, *arguments, given=None):
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, input=given, capture_output=True, text=True
    )


@pytest.mark.parametrize("source", [UNGUARDED, GUARDED], ids=["unguarded", "guarded"])
def test_a_script_trains_its_own_topic_and_goes_on_when_it_is_run_again(tmp_path, source):
    (tmp_path / "mine.py").write_text(source)
    first = python(tmp_path, "mine.py")
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    assert lines[:2] == ["main runs", "cells to train: 4; reused: 0 of 4; skipped: 0"]
    assert sum(line.startswith("[") for line in lines) == 4 and "Traceback" not in first.stderr
    assert "4 cells, 4 done" in first.stderr
    assert (tmp_path / "results/smoke/index.html").is_file()
    reads = (tmp_path / "reads").read_text().split()
    assert len(reads) <= 2 * len(set(reads))  # a worker keeps its cache: two seeds, not each task
    again = python(tmp_path, "mine.py")
    assert "cells to train: 0; reused: 4 of 4; skipped: 0" in again.stdout
    (tmp_path / "mine.py").write_text(source.replace("SLOPE = 0.25", "SLOPE = 0.5"))
    assert "cells to train: 4; reused: 0 of 4" in python(tmp_path, "mine.py").stdout


KERNEL = f"""
import code, sys
shell = code.InteractiveInterpreter({{"__name__": "__main__"}})
sys.modules["__main__"].__dict__.pop("__file__", None)
shell.locals = sys.modules["__main__"].__dict__
for cell in {[UNGUARDED, CALL, "SLOPE = 0.5", CALL, "SLOPE = 0.25", CALL]!r}:
    shell.runsource(cell, "<cell>", "exec")
"""


@pytest.mark.parametrize("how", ["-c", "-"])
def test_a_notebook_reuses_until_what_its_class_uses_changes(tmp_path, how):
    done = python(tmp_path, how, *([KERNEL] if how == "-c" else []), given=KERNEL)
    assert "Traceback" not in done.stderr, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("cells to train")]
    reused = [line.partition("; ")[2][:14] for line in told]
    assert reused == ["reused: 0 of 4", "reused: 4 of 4", "reused: 0 of 4", "reused: 0 of 4"]
    assert "mine is written in no file: only this session reuses its cells" in done.stdout
    records = list((tmp_path / "results/smoke/cells").glob("*.json"))
    assert {json.loads(path.read_text())["command"] for path in records} == {""}


def test_a_module_that_trains_when_a_worker_imports_it_says_so(tmp_path):
    """A class's base travels by its name, so workers import its module."""
    call = "harness.run(Mine(), 'smoke', models=['line'], folder='base')"
    (tmp_path / "base.py").write_text(f"{PLAIN}\n\n{call}\n")
    (tmp_path / "script.py").write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\nimport base, harness\n\n"
        "@dataclass(frozen=True)\nclass Other(base.Mine):\n    name: ClassVar[str] = 'other'\n\n"
        "found = harness.run(Other(), 'smoke', models=['line'], folder='other')\n"
        "print(found.record('other/line-mse-cosine-single-s0').reason)\n"
    )
    done = python(tmp_path, "script.py")
    assert 'call it under if __name__ == "__main__"' in done.stdout, done.stderr


def test_ctrl_c_keeps_what_is_done_and_the_next_call_goes_on(tmp_path):
    stop = """
def stop(record, run):
    if sys.argv[1:]:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # in background jobs it is ignored
        signal.raise_signal(signal.SIGINT)
"""
    source = PLAIN + stop + CALL.replace("[0, 3])", "[0, 3], sinks=[stop])")
    (tmp_path / "mine.py").write_text(source)
    broken = python(tmp_path, "mine.py", "stop")
    assert broken.returncode != 0 and "KeyboardInterrupt" in broken.stderr
    kept = len(list((tmp_path / "results/smoke/cells").glob("*.json")))
    assert 1 <= kept < 4 and f"{kept} of 4 cells are kept in results/smoke" in broken.stdout
    assert (tmp_path / "results/smoke/cells.csv").is_file()
    assert f"reused: {kept} of 4" in python(tmp_path, "mine.py").stdout


def test_a_terminal_has_one_line_that_renews_itself(tmp_path):
    (tmp_path / "mine.py").write_text(UNGUARDED)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "mine.py"], cwd=tmp_path, stdout=theirs, stderr=subprocess.DEVNULL
    )
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 65536):
            written += part
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    text = written.decode()
    assert "of 4 cells" in text and "running, 0 failed" in text and "[1/4]" not in text


def test_gpus_are_hidden_for_its_own_time_and_the_folder_is_held_to_the_last(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    seen = []

    def report(folder, said):
        with pytest.raises(UsageError, match="is in use by"):
            FolderLock(folder).acquire()
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        return folder / "index.html"

    monkeypatch.setattr(sys.modules[harness.run.__module__], "write_report", report)
    cell = Cell("toy", "line", "mse", "cosine")
    harness.run(Toy(), "smoke", folder=tmp_path, device="cpu", select=[cell])
    assert seen == [""] and "CUDA_VISIBLE_DEVICES" not in os.environ
    FolderLock(tmp_path).acquire()


RACE = {"profile": "race", "minutes": 5}
LINE = "toy/line-mse-cosine-single"


@pytest.mark.parametrize(
    ("arguments", "told", "message"),
    [
        (("vg",), {}, "unknown topic 'vg': choose from vgg"),
        ((Toy(),), {"profile": "quik"}, "unknown profile 'quik': choose from quick"),
        ((Toy(),), {"losses": ["cee"]}, "unknown loss 'cee': choose from ce"),
        ((Toy(),), {"losses": "ce"}, "'ce' is given for a list: write ['ce']"),
        ((Toy(),), {"losses": Focal()}, "is given for a list: write ["),
        ((Toy(),), {"seeds": 1.5}, "seeds: 1.5 is given for a list"),
        ((Toy(),), {"select": 3}, "select: 3 is given for a list"),
        ((Toy(),), {"sinks": print}, "is given for a list: write [<built-in function print>]"),
        ((Toy(),), {"sinks": ["tensorboard"]}, "sinks: 'tensorboard' cannot be called"),
        ((Toy(),), {"settings": ["toy.steps=3"]}, "is no dict, such as {'mine.steps': 500}"),
        ((Toy(),), {"losses": [harness.Loss]}, "Loss"),
        ((Toy(),), {"schedules": [3]}, "3 is no schedule: its class must derive from harness.Sch"),
        ((Toy(),), {"settings": {"toy.stps": 3}}, "unknown field 'stps' of toy: choose from steps"),
        ((Toy(),), {"select": "nothing"}, "no cell is selected: 'nothing' matches none of"),
        ((Toy(),), {"select": ["toy"]}, "'toy' is no cell id"),
        ((Toy(),), {"select": ["vgg/vgg11-ce-cosine-single-s0"]}, "unknown topic 'vgg'"),
        ((Toy,), {}, "is a class: give an instance, Toy()"),
        (([Toy(), Toy(at=1)],), {}, "two topics are named 'toy'"),
        ((Toy(),), {"world_size": 0}, "world size 0"),
        ((Toy(),), {"minutes": 3}, "minutes 3 is for --profile race"),
        ((Toy(),), {"folder": __file__}, "is a file"),
        ((Toy(),), RACE | {"seeds": [0, 1]}, "a race takes as many as its minutes allow"),
        ((Toy(),), RACE | {"select": [f"{LINE}-s1"]}, "the cells of a race are of seed 0"),
        ((Toy(),), {"losses": [Focal(), Focal(gamma=1.0)]}, "two loss values are named 'focal'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_left(tmp_path, monkeypatch, arguments, told, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as raised:
        harness.run(*arguments, **{"profile": "smoke"} | told)
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_sent_is_named(monkeypatch):
    monkeypatch.setattr(Toy, "open_file", sys.stdout, raising=False)
    with pytest.raises(UsageError, match="topic toy cannot be sent to another process: "):
        cell = Cell("toy", "line", "mse", "cosine")
        packed(print, Task(Toy(), cell, Budget(2, 8), Path()))
