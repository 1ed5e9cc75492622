"""Records handed on to TensorBoard and MLflow, as their own readers find them."""

import math
import subprocess
import sys
from functools import partial

import pytest
from mlflow import MlflowClient
from run_folder import record
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from test_plugin import CONFTEST, EXPERIMENT
from torch.utils.tensorboard import SummaryWriter
from toy import Toy

from harness import Cell, Status, Store
from harness.runs import Run
from harness.sinks import mlflow, tensorboard
from harness.trial.outcome import Outcome

CELL = Cell("toy", "line", "mse", "cosine")


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Run(tmp_path / "smoke", {"toy": Toy(at=3)}, "smoke")


@pytest.fixture
def kept():
    made = record(CELL, started="2026-11-26T09:00:00+00:00")
    made.curve = {"step": [1.0, 2.0], "loss": [2.0, math.nan], "lr": [0.1, 0.05]}
    made.held_out = {"step": [2.0], "score": [0.4]}
    return made


def events(run, cell=CELL):
    found = EventAccumulator(str(run.folder / "tensorboard" / cell.id)).Reload()
    assert len(list((run.folder / "tensorboard" / cell.id).iterdir())) == 1
    return found


def points(found, name):
    return [(event.step, round(event.value, 6)) for event in found.Scalars(name)]


def test_tensorboard_reads_curves_figures_and_settings(run, kept):
    tensorboard.write(kept, run)
    found = events(run)
    assert points(found, "train/lr") == [(1, 0.1), (2, 0.05)]
    assert points(found, "train/loss")[0] == (1, 2.0)
    assert math.isnan(found.Scalars("train/loss")[1].value)
    assert points(found, "validation/score") == [(2, 0.4)]
    assert points(found, "metric/score")[-1][1] == 0.5
    text = found.Tensors("status/text_summary")[0].tensor_proto.string_val[0]
    assert text == b"done"
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    data = plugin_data_pb2.HParamsPluginData.FromString(content)
    settings = data.session_start_info.hparams
    assert settings["loss"].string_value == "mse" and settings["toy.at"].number_value == 3
    assert settings["budget.steps"].number_value == 10 and settings["rate"].number_value == 1


def test_tensorboard_keeps_one_training_a_cell(run, kept):
    for _ in range(2):
        tensorboard.write(kept, run)
    first = [path.name for path in (run.folder / "tensorboard" / CELL.id).iterdir()]
    assert points(events(run), "validation/score") == [(2, 0.4)]
    kept.started = "2026-11-26T10:00:00+00:00"
    kept.held_out = {"step": [2.0], "score": [0.7]}
    tensorboard.write(kept, run)
    assert points(events(run), "validation/score") == [(2, 0.7)]
    assert first != [path.name for path in (run.folder / "tensorboard" / CELL.id).iterdir()]


def test_tensorboard_writes_again_what_was_broken_off(run, kept, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(SummaryWriter, "add_text", full)
        tensorboard.write(kept, run)
    assert not [path for path in run.folder.rglob("*") if path.is_file()]
    tensorboard.write(kept, run)
    assert points(events(run), "validation/score") == [(2, 0.4)]
    assert [path.name for path in run.folder.iterdir()] == ["tensorboard"]


def test_mlflow_reads_curves_figures_and_parameters(run, kept):
    kept.curve = {"step": list(range(1, 1502)), "loss": [2.0] * 1500 + [math.nan]}
    mlflow.write(kept, run)
    client = mlflow.client_of(run.folder)
    (found,) = _runs(client)
    assert found.info.run_name == CELL.id and found.info.status == "FINISHED"
    assert found.data.params | {"loss": "mse", "toy.at": "3", "budget.steps": "10"} == (
        found.data.params
    )
    assert found.data.tags["status"] == "done" and found.data.metrics["metric/score"] == 0.5
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert [point.step for point in history] == kept.curve["step"]
    assert math.isnan(history[-1].value) and history[0].value == 2.0
    assert [
        (point.step, point.value)
        for point in client.get_metric_history(found.info.run_id, "validation/score")
    ] == [(2, 0.4)]


def test_mlflow_takes_metrics_of_any_name(run, kept):
    kept.metrics = {"F1@0.5": 0.1, "F1_0.5": 0.2, "a//b": 0.3, "..": 0.4, "größe: 1 (m)": 0.5}
    mlflow.write(kept, run)
    (found,) = _runs(mlflow.client_of(run.folder))
    metrics = {name: value for name, value in found.data.metrics.items() if "metric/" in name}
    assert metrics == {
        "metric/F1_0.5": 0.1,
        "metric/F1_0.5_": 0.2,
        "metric/a/_/b": 0.3,
        "metric/_": 0.4,
        "metric/größe_ 1 _m_": 0.5,
    }


def test_mlflow_writes_again_what_was_broken_off(run, kept, monkeypatch):
    log = MlflowClient.log_batch

    def fails(client, made, metrics=(), **more):
        if metrics:
            raise ConnectionError("planted")
        log(client, made, **more)

    with monkeypatch.context() as patched, pytest.raises(ConnectionError):
        patched.setattr(MlflowClient, "log_batch", fails)
        mlflow.write(kept, run)
    for _ in range(2):
        mlflow.write(kept, run)
    (found,) = _runs(mlflow.client_of(run.folder))
    assert found.info.status == "FINISHED" and found.data.metrics["metric/score"] == 0.5


def _runs(client):
    return client.search_runs([client.get_experiment_by_name("smoke").experiment_id])


def test_mlflow_has_each_training_once(run, kept, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "elsewhere").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for status in ("done", "done", "failed"):
        kept.status, kept.started = Status(status), f"at {status}"
        mlflow.write(kept, run)
    found = _runs(MlflowClient((tmp_path / "elsewhere").as_uri()))
    assert sorted(one.info.status for one in found) == ["FAILED", "FINISHED"]
    assert not (run.folder / "mlruns").exists()


@pytest.mark.parametrize("sink", [tensorboard, mlflow])
def test_a_skipped_cell_leaves_nothing(run, sink):
    skipped = record(CELL)
    skipped.status = Status.SKIPPED
    sink.write(skipped, run)
    assert not list(run.folder.glob("*"))


class Broken:
    def __call__(self, *_):
        raise OSError("planted")

    def __repr__(self):
        return "a sink of mine"


@pytest.mark.parametrize(
    ("sink", "named"),
    [
        (partial(Broken(), 1), "functools.partial(a sink of mine, 1)"),
        (Broken(), "test_sinks.a sink of mine"),
        (Broken().__call__, "test_sinks.Broken.__call__"),
    ],
)
def test_a_sink_of_any_kind_that_fails_costs_a_line(run, kept, sink, named):
    said = []
    run.sinks, run.report = [sink], said.append
    run.keep(CELL, Outcome(status=Status.DONE))
    (line,) = said
    assert named in line and line.endswith(f"has not taken {CELL.id}: OSError: planted")


HOOK = """

def pytest_decathlon_record(record, run):
    print(f"SEEN {record.cell.id} {record.status} {run.profile}")
    if "dropout" in record.cell.id:
        raise OSError("planted\\nsecond line")
"""


def test_the_hook_sees_each_record_once_and_a_fault_costs_a_line(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST + HOOK)
    (tmp_path / "test_own.py").write_text(EXPERIMENT)
    command = [sys.executable, "-m", "pytest", "-s", "--profile", "smoke", "-p", "no:xdist"]
    command += ["-p", "harness.sinks.tensorboard"]
    for reused in (0, 3):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        assert f"reused: {reused} of 3" in done.stdout
        assert done.stdout.count("SEEN toy/") == 3
        warnings = [line for line in done.stdout.splitlines() if "has not taken" in line]
        assert len(warnings) == 1 and "OSError: planted" in warnings[0]
        assert "toy/dropout-mse-cosine-single-s0" in warnings[0]
    folder = tmp_path / "results" / "smoke"
    for kept in Store(folder):
        found = EventAccumulator(str(folder / "tensorboard" / kept.cell.id)).Reload()
        assert [event.value for event in found.Scalars("train/loss")] == pytest.approx(
            kept.curve["loss"]
        )


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_where_the_tool_is_not_installed_one_line_says_so(tmp_path, name):
    (tmp_path / "without.py").write_text(f"import sys\nsys.modules[{name!r}] = None\n")
    command = [sys.executable, "-m", "pytest", "-p", "without", "-p", f"harness.sinks.{name}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"pip install torch-decathlon[{name}]" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
