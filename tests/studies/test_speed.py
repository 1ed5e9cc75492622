"""The speed study: recipes timed in fresh processes, one after another."""

import importlib.util
import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import torch
from toy import Toy

from harness.cell import Budget, Cell
from harness.results import side_files
from harness.runs import Run
from harness.studies import speed
from harness.trial.task import Task

CONFTEST = """
from toy import Toy

class Own(Toy):
    name = "own"
    models = ("tree", "line")
    fits = ("tree",)
"""


class Estimators(Toy):
    name = "estimators"
    models = fits = ("tree",)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A topic of a module that no other process can import, as that of a conftest."""
    path = tmp_path / "own_conftest.py"
    path.write_text(CONFTEST)
    found = importlib.util.spec_from_file_location("own_conftest", path)
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, "own_conftest", module)
    found.loader.exec_module(module)
    return module.Own()


def who(task, rank):
    return [{"pid": os.getpid(), "parent": os.getppid(), "threads": torch.get_num_threads()}]


def test_each_process_times_all_topics_first_recipes(tmp_path, own, monkeypatch):
    monkeypatch.setattr(speed, "PROCESSES", 2)
    said = []
    topics = {"toy": Toy(), "own": own, "estimators": Estimators()}
    run = Run(tmp_path, topics, "smoke", report=said.append)
    found = speed.measure(run)
    counts = found.groupby(["topic", "model", "process"])["round"].nunique()
    pairs = [("own", "line"), ("toy", "line")]
    assert list(counts.index) == [(*pair, process) for pair in pairs for process in (0, 1)]
    assert (counts == speed.ROUNDS).all()
    assert (found[["step_ms", "small_ms", "large_ms"]] > 0).all(axis=None)
    kept = side_files.study(tmp_path, "speed").sort_values(["process", "topic", "round"])
    assert kept.to_numpy().tolist() == found.to_numpy().tolist()
    assert len(said) == 3 and said[0].startswith("speed: 2 recipes in each of 2 processes")


def test_the_process_is_new_has_one_thread_and_serves_all_recipes(tmp_path):
    run = Run(tmp_path, {"toy": Toy()}, "smoke", report=lambda line: None)
    first, second = speed.in_a_fresh_process(speed.tasks_of(run) * 2, who)
    assert first == second and first["threads"] == 1
    assert first["parent"] == os.getpid() != first["pid"]  # of a fork server's, that is another
    with pytest.raises(ProcessLookupError):
        os.kill(first["pid"], 0)


def test_a_process_that_dies_is_one_error_and_leaves_nothing(tmp_path):
    before = multiprocessing.active_children()
    run = Run(tmp_path, {"toy": Toy("die", at=3)}, "smoke", report=lambda line: None)
    with pytest.raises(RuntimeError, match=r"the speed of toy/line .*: killed by SIGKILL"):
        speed.measure(run)
    assert multiprocessing.active_children() == before
    assert not (tmp_path / "speed.csv").exists()


def test_a_training_begins_anew_where_its_budget_ends(tmp_path):
    """one_cycle raises beyond its last step."""
    task = Task(Toy(), Cell("toy", "line", "mse", "one_cycle"), Budget(20, 8), tmp_path)
    steps = speed._Steps(task, torch.device("cpu"))
    for count in (15, 15, 50):
        assert steps(count) > 0
    assert steps._training.step == 20


def test_a_core_that_others_had_is_not_counted(monkeypatch):
    monkeypatch.setattr(speed.time, "perf_counter", iter([0.0, 10.0]).__next__)
    monkeypatch.setattr(speed, "_waited_s", iter([1.0, 5.0]).__next__)
    assert speed._seconds(lambda: None, 2) == 3.0


def test_where_the_system_does_not_tell_nobody_has_waited(monkeypatch):
    assert speed._waited_s() >= 0

    def refuse(path):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert speed._waited_s() == 0
