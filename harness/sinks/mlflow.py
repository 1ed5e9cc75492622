"""Sink for MLflow: a run of MLflow's for each training, with curves, figures and parameters.

``pytest -p harness.sinks.mlflow`` leaves them where MLFLOW_TRACKING_URI says, else in MLflow's
files in the run's folder (``mlruns``). The experiment is named for the run's folder.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
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

    One that is there and has not ended was broken off: it is written anew. A skipped cell has none.
    """
    from mlflow.entities import Metric, Param

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
    there = client.search_runs([number], same.format(**tags))
    if any(one.info.status != "RUNNING" for one in there):
        return
    for one in there:
        client.delete_run(one.info.run_id)
    short = {name: text[:LONGEST] for name, text in tags.items()}
    made = client.create_run(number, tags=short, run_name=record.cell.id).info.run_id
    now = int(time.time() * 1000)
    curves = dict(contents.curves(record))
    curves |= {name: [(0, value)] for name, value in contents.figures(record).items()}
    keys = _keys(curves)
    metrics = [
        Metric(keys[name], value, now, step)
        for name, points in curves.items()
        for step, value in points
    ]
    settings = contents.settings(record, run.topic(record.cell))
    client.log_batch(made, params=[Param(k, str(v)) for k, v in settings.items()])
    for start in range(0, len(metrics), BATCH):
        client.log_batch(made, metrics[start : start + BATCH])
    client.set_terminated(made, "FINISHED" if record.status in TRAINED else "FAILED")


def _keys(names: Iterable[str]) -> dict[str, str]:
    """Return names of metrics with the keys that MLflow takes for them, another for each.

    Letters, digits and ``_.- /`` stay, all else becomes ``_``; so does a part between slashes that
    a path would not have.
    """
    keys: dict[str, str] = {}
    for name in names:
        parts = re.sub(r"[^\w./ -]", "_", name).split("/")
        key = "/".join(part if part.strip(".") else "_" for part in parts)
        while key in keys.values():
            key += "_"
        keys[name] = key
    return keys


def client_of(folder: Path) -> MlflowClient:
    """Return MLflow's client for MLFLOW_TRACKING_URI, else for the files in a run's folder."""
    from mlflow import MlflowClient

    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return MlflowClient(uri)
    # MLflow 3 asks for this to write files, which are all that mlflow-skinny can write
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowClient((folder.absolute() / "mlruns").as_uri())


pytest_decathlon_record = write
