"""Parity study: compare parallel training's first steps with single-process training's."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from functools import partial

import pandas as pd

from harness.axes.parallel import CONFIGURATIONS, is_distributed
from harness.runs import Run
from harness.studies.study import keep, own_executor, task_of
from harness.trial import parity as trial_parity
from harness.trial.outcome import Parity

COLUMNS = ["topic", "model", "parallel", "ranks", *(field.name for field in fields(Parity))]


def parity(run: Run, topic: str) -> pd.DataFrame:
    """Compare the first steps of each parallel configuration with single-process training's.

    The model is the topic's first that trains in steps; a topic of estimators only has none, and no
    rows. Returns a row per configuration, and writes them to ``parity.csv``. difference: the
    largest relative one from single's first losses and gradient at the same global batch. equal:
    empty where a configuration or the topic's networks and objectives make it inexact; the reason
    says so, or how it is not equal.
    """
    own = run.topics[topic]
    model = next((model for model in own.models if model not in own.fits), None)
    if model is None:
        return pd.DataFrame(columns=COLUMNS)
    task, rows = task_of(run, topic, model), []
    most = max(map(trial_parity.steps_of, CONFIGURATIONS.names))
    with own_executor() as executor:
        alone = executor.call(partial(trial_parity.first_steps, steps=most), task)
        for name in filter(is_distributed, CONFIGURATIONS.names):
            cell = replace(task.cell, parallel=name)
            if run.skip_reason(cell) is None:
                there = replace(task, cell=cell, world_size=run.world_size)
                got = executor.call(trial_parity.first_steps, there)
                found = asdict(trial_parity.compare(alone, got, there))
                row = {"topic": topic, "model": model, "parallel": name, "ranks": run.world_size}
                rows.append(row | found)
    return keep(run, "parity", task, rows)
