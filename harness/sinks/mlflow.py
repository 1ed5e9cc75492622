"""Sink for MLflow: a run of MLflow's for each training, with curves, figures and parameters.

``pytest -p harness.sinks.mlflow`` leaves them where MLFLOW_TRACKING_URI says, else in MLflow's
files in the run's folder (``mlruns``). The experiment is named for the run's folder.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cell import Status
from harness.results.record import TRAINED, Record
from harness.runs import Run
from harness.sinks import contents

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH = 1000  # the most metrics that MLflow takes in one call
LONGEST = 5000  # characters of a tag


def pytest_configure(config: pytest.Config) -> None:
    """End pytest with one line where MLflow is not installed."""
    contents.require("mlflow")


def write(record: Record, run: Run) -> None:
    """Write a record as a run of MLflow's, named for its cell, unless it is there already.

    A skipped cell has none.
    """
    from mlflow.entities import Metric, Param, RunTag

    if record.status is Status.SKIPPED:
        return
    client = client_of(Path(run.folder))
    name = Path(run.folder).absolute().name
    experiment = client.get_experiment_by_name(name)
    number = experiment.experiment_id if experiment else client.create_experiment(name)
    same = (
        "tags.cell = '{cell}' and tags.fingerprint = '{fingerprint}' and tags.started = '{started}'"
    )
    tags = contents.tags(record)
    if client.search_runs([number], same.format(**tags), max_results=1):
        return
    made = client.create_run(number, run_name=record.cell.id).info.run_id
    now = int(time.time() * 1000)
    metrics = [
        Metric(key, value, now, step)
        for key, points in contents.curves(record)
        for step, value in points
    ]
    metrics += [Metric(key, value, now, 0) for key, value in contents.figures(record).items()]
    settings = contents.settings(record, run.topic(record.cell))
    params = [Param(k, str(v)) for k, v in settings.items()]
    client.log_batch(made, params=params, tags=[RunTag(k, v[:LONGEST]) for k, v in tags.items()])
    for start in range(0, len(metrics), BATCH):
        client.log_batch(made, metrics[start : start + BATCH])
    client.set_terminated(made, "FINISHED" if record.status in TRAINED else "FAILED")


def client_of(folder: Path) -> MlflowClient:
    """Return MLflow's client for MLFLOW_TRACKING_URI, else for the files in a run's folder."""
    from mlflow import MlflowClient

    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return MlflowClient(uri)
    # MLflow 3 asks for this to write files, which are all that mlflow-skinny can write
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowClient((folder.absolute() / "mlruns").as_uri())


pytest_decathlon_record = write
