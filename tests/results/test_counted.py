"""Which cells compete, and what counts of a training that came to nothing."""

import numpy as np
import pandas as pd
import pytest

from harness.results.counted import chooser, competitors, counted

BASE = {"topic": "t", "model": "m", "loss": "ce", "schedule": "cosine", "parallel": "single"}
BASE |= {"seed": 0, "status": "done", "primary": "fid", "parity.exact": None}
BASE |= {"metric.fid": 1.0, "baseline.fid": 30.0, "rate": 1.0}


def table(*rows):
    return pd.DataFrame([BASE | row for row in rows])


def test_exact_configurations_stand_in_for_single_where_it_lacks_a_seed():
    found = competitors(
        table(
            {"metric.fid": 1.0},
            {"parallel": "ddp", "parity.exact": True, "metric.fid": 1.1},
            {"parallel": "ddp", "parity.exact": True, "metric.fid": 2.0, "seed": 1},
            {"parallel": "ddp", "status": "failed", "metric.fid": None, "seed": 2},
            {"parallel": "local_sgd", "parity.exact": False, "metric.fid": 3.0},
        )
    )
    assert found[["parallel", "seed", "metric.fid", "stands_in"]].to_numpy().tolist() == [
        ["local_sgd", 0, 3.0, False],
        ["single", 0, 1.0, False],
        ["single", 1, 2.0, True],
    ]


def test_exact_is_what_cells_of_the_same_loss_and_settings_are():
    """Dropout makes ddp inexact, so its cells are no seeds of single's with dropout."""
    dropout = {"settings": "dropout=0.1", "parity.exact": None}
    found = competitors(
        table(
            {"settings": "dropout=0"},
            {"settings": "dropout=0", "parallel": "ddp", "parity.exact": True},
            dropout,
            dropout | {"parallel": "ddp", "seed": 1, "parity.exact": False},
            dropout | {"parallel": "ddp", "seed": 2, "status": "failed"},
            dropout | {"parallel": "ddp", "loss": "mse", "parity.exact": True},
            {"parallel": "ddp", "settings": "dropout=0.2", "status": "diverged", "seed": 3},
        )
    )
    assert found[["parallel", "loss", "settings", "seed", "stands_in"]].to_numpy().tolist() == [
        ["ddp", "ce", "dropout=0.1", 1, False],
        ["ddp", "ce", "dropout=0.1", 2, False],
        ["single", "ce", "dropout=0", 0, False],
        ["single", "ce", "dropout=0.1", 0, False],
        ["single", "ce", "dropout=0.2", 3, True],
        ["single", "mse", "dropout=0.1", 0, True],
    ]


def test_rates_are_recipes_apart_and_skipped_cells_none():
    rows = ({}, {"rate": 0.3}, {"status": "skipped", "seed": 4})
    assert competitors(table(*rows))["rate"].tolist() == [0.3, 1.0]


@pytest.mark.parametrize("status", ["diverged", "failed", "timeout"])
def test_what_came_to_nothing_is_its_baseline_or_worse(status):
    lost = {"status": status, "metric.fid": None}
    rows = table({}, lost, lost | {"metric.fid": 99.0}, lost | {"baseline.fid": None})
    values, trained = counted(rows, "fid", "min")
    assert values.tolist() == [1.0, 30.0, 99.0, 30.0]
    assert trained.tolist() == [True, False, False, False]
    assert counted(rows, "fid", "max")[0].tolist() == [1.0, 30.0, 30.0, 30.0]


@pytest.mark.parametrize("status", ["unmeasured", "done"])  # done: in tables of earlier versions
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_trained_to_no_finite_value_counts_as_nothing_and_for_other_metrics(status, value):
    odd = {"status": status, "metric.fid": value, "metric.kid": 0.2}
    rows = table({"metric.kid": 0.1}, odd)
    values, trained = counted(rows, "fid", "min")
    assert values[0] == 1.0 and np.isnan(values[1]) and trained.tolist() == [True, False]
    values, trained = counted(rows, "kid", "max")
    assert values.tolist() == [0.1, 0.2] and trained.all()


def test_unsolved_is_censored_at_the_steps_that_were_given():
    rows = table(
        {"metric.steps_to_solve": 4000.0, "evaluation.env_steps": 9000.0},
        {"metric.steps_to_solve": None, "evaluation.env_steps": 9000.0},
        {"metric.steps_to_solve": None, "evaluation.env_steps": None, "status": "failed"},
    )
    assert counted(rows, "steps_to_solve", "min")[0].tolist() == [4000.0, 9000.0, 9000.0]


def test_validation_chooses_where_all_have_it():
    rows = table({"validation.fid": 1.0}, {"status": "diverged", "metric.fid": None})
    assert chooser(rows, "fid") == "validation"
    assert chooser(pd.concat([rows, table({})]), "fid") == "metric"
    assert chooser(table({}), "fid") == "metric"


def test_what_was_only_validated_counts_as_nothing():
    rows = table({"validation.fid": 2.0}, {"metric.fid": None, "validation.fid": 3.0})
    values, trained = counted(rows, "fid", "min")
    assert values[0] == 1.0 and np.isnan(values[1]) and trained.tolist() == [True, False]
    assert counted(rows, "fid", "min", "validation")[0].tolist() == [2.0, 3.0]
