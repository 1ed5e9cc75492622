"""When a training reached its target."""

import pytest
from test_tables import record

from harness.results import tables
from harness.results.target import held_out, with_targets


def row(seed, values, better="max", untrained=0.1, **more):
    return record(
        topic="t",
        seed=seed,
        directions={"acc": better},
        metrics={"acc": values[-1]},
        validation={"acc": values[-1]},
        baseline={"acc": untrained},
        budget={"steps": 10 * len(values), "batch_size": 8},
        cost={"train_s": 2.0},
        held_out={"step": [10.0 * (i + 1) for i in range(len(values))], "acc": list(values)},
        **more,
    )


def found(rows, own=None):
    return with_targets(tables.cells(rows), held_out(rows), {"t": own})


def test_the_target_is_nine_tenths_of_what_the_best_wins():
    cells = found([row(0, [0.5, 0.95, 1.1]), row(1, [0.2, 0.3, 1.01]), row(2, [0.2, 0.3, 0.4])])
    assert cells["evaluation.target"].tolist() == pytest.approx([1.0] * 3)
    steps = cells["cost.steps_to_target"].tolist()
    assert steps[:2] == [30, 30] and steps[2] != steps[2]
    assert cells["cost.seconds_to_target"].tolist()[:2] == [2.0, 2.0]


def test_lower_is_better_where_it_is():
    cells = found([row(0, [5.0, 1.5, 1.0], "min", 10.0), row(1, [9.0, 9.0, 9.0], "min", 10.0)])
    assert cells["evaluation.target"][0] == pytest.approx(1.9)
    assert cells["cost.steps_to_target"][0] == 20
    assert cells["cost.seconds_to_target"][0] == pytest.approx(4 / 3)
    assert cells["cost.steps_to_target"].isna()[1]


def test_a_topics_own_target_goes_before():
    cells = found([row(0, [0.5, 0.95, 1.1])], own=0.5)
    assert cells["evaluation.target"][0] == 0.5 and cells["cost.steps_to_target"][0] == 10


def test_what_diverged_sets_no_target_and_what_has_no_curve_no_time():
    plain = {"held_out": {}}
    rows = [row(0, [0.5, 0.6]), row(1, [5.0, 5.0], status="diverged")]
    rows += [{**row(2, [0.6, 0.6]), **plain}]
    cells = found(rows)
    assert cells["evaluation.target"].tolist() == pytest.approx([0.55] * 3)
    assert cells["cost.steps_to_target"].isna()[2]


def test_a_run_without_curves_or_validation_has_empty_columns():
    rows = [record()]
    cells = with_targets(tables.cells(rows), held_out(rows), {})
    assert cells["evaluation.target"].isna().all() and cells["cost.seconds_to_target"].isna().all()


def test_a_model_that_another_metric_judges_has_no_target():
    other = row(1, [0.5, 0.6]) | {"metrics": {"mae": 0.1}, "validation": {"mae": 0.1}}
    cells = found([row(0, [0.5, 0.6]), other])
    assert cells["evaluation.target"].notna().tolist() == [True, False]


def test_a_topic_none_of_whose_cells_was_measured_has_its_own_target():
    failed = row(0, [0.5, 0.6], status="failed") | {"metrics": {}, "validation": {}}
    assert found([failed], own=0.5)["evaluation.target"].tolist() == [0.5]
