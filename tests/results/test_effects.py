"""Effects of axes: held against hand work and least squares, and by simulation of known designs."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from harness.results.effects import effects, holm

AXES = ["topic", "model", "loss", "schedule", "parallel", "seed"]
COMMON = {"status": "done", "primary": "score", "direction.score": "max", "baseline.score": 0.0}


def table(rows):
    """Cells of (loss, schedule, seed, value)."""
    return pd.DataFrame(
        {"topic": "t", "model": "m", "loss": loss, "schedule": schedule, "parallel": "single"}
        | {"seed": seed, "metric.score": value}
        | COMMON
        for loss, schedule, seed, value in rows
    )


def balanced(grid):
    return table(
        (loss, schedule, 0, value) for loss, row in grid.items() for schedule, value in row.items()
    )


def test_shares_and_levels_of_a_balanced_design_by_hand():
    # Losses 3 and 5 about 4 (3 cells each: 3 + 3 = 6), schedules 2, 4 and 6 (8 + 0 + 8 = 16), and
    # the four corners are off by 1: 6 + 16 + 4 = 26; 4 over 2 degrees of freedom is a noise of 2.
    found = effects(balanced({"ce": {"a": 2, "b": 3, "c": 4}, "mse": {"a": 2, "b": 5, "c": 8}}))
    share = found[found.kind == "share"].set_index("axis")
    assert share.loc["loss", "value"] == pytest.approx((6 - 1 * 2) / (26 + 2))
    assert share.loc["schedule", "value"] == pytest.approx((16 - 2 * 2) / (26 + 2))
    assert share.loc["residual", "value"] == pytest.approx(4 / 26)
    assert share.loc[["loss", "schedule", "residual"], "df"].tolist() == [1, 2, 2]
    assert share.loc["loss", "p"] == pytest.approx(scipy.stats.f.sf(6 / 2, 1, 2))
    level = found[found.kind == "level"].set_index("level")
    assert level.loc[["ce", "mse", "a", "b", "c"], "value"].tolist() == pytest.approx(
        [-1, 1, -2, 0, 2]
    )
    half = scipy.stats.t.ppf(0.975, 2) * np.sqrt(2 / 6)  # a mean of 3 of 6 cells, from that of all
    assert level.loc["ce", ["low", "high"]].tolist() == pytest.approx([-1 - half, -1 + half])


def test_levels_of_an_unbalanced_design_against_least_squares():
    draw = np.random.default_rng(0)
    names, marks = draw.integers(3, size=40), draw.integers(4, size=40)
    y = draw.normal(size=40) + 2 * (names == 0)
    found = effects(table(zip(map(str, names), map(str, marks), range(40), y, strict=True)))
    assert found.empty is False  # seeds are all different: nothing is left beside them
    rows = zip(map(str, names), map(str, marks), np.zeros(40, int), y, strict=True)
    cells = table(rows).assign(rate=np.arange(40) / 10 + 1)  # told apart, so that none is dropped
    level = effects(cells).query("kind == 'level' and axis == 'loss'").set_index("level")["value"]
    x = np.column_stack(
        [np.ones(40)]
        + [(names == i) * 1.0 - (names == 2) for i in range(2)]
        + [(marks == i) * 1.0 - (marks == 3) for i in range(3)]
    )
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    assert level[["0", "1"]].tolist() == pytest.approx(weights[1:3].tolist())


def test_confounded_axes_and_saturated_models_say_so():
    rows = [("ce", "a", 0, 1.0), ("mse", "b", 0, 2.0), ("ce", "a", 1, 1.5), ("mse", "b", 1, 2.1)]
    found = effects(table(rows))
    share = found[found.kind == "share"].set_index("axis")
    assert np.isnan(share.loc["loss", "value"]) and "other axes" in share.loc["loss", "note"]
    assert share.loc["loss", "df"] == 0
    assert found[(found.kind == "level") & (found.axis == "loss")]["value"].isna().all()
    two = effects(balanced({"ce": {"a": 1.0}, "mse": {"a": 2.0}}))
    saturated = two[two.kind == "share"]
    assert saturated["value"].isna().all()
    assert saturated["note"].str.contains("as many parameters").all()
    assert two[two.kind == "level"]["low"].isna().all()


def test_nothing_varies_and_nothing_trained_leave_no_rows():
    assert effects(balanced({"ce": {"a": 1, "b": 1}, "mse": {"a": 1, "b": 1}})).empty
    lost = balanced({"ce": {"a": 1, "b": 2}}).assign(status="diverged")
    assert effects(lost).empty


def test_what_diverged_counts_as_its_baseline():
    cells = balanced({"ce": {"a": 1.0, "b": 1.0}, "mse": {"a": 1.0, "b": 1.0}})
    cells.loc[cells.loss == "mse", ["status", "metric.score"]] = ["diverged", np.nan]
    level = effects(cells).query("kind == 'level' and axis == 'loss'").set_index("level")["value"]
    assert level.to_dict() == pytest.approx({"ce": 0.5, "mse": -0.5})


def factorial(draw, interaction=0.0):
    """Three losses by three schedules by three seeds, additive but for one cell's surplus."""
    return table(
        ("abc"[i], "xyz"[j], seed, i + j + interaction * (i == j == 2) + draw.normal())
        for i in range(3)
        for j in range(3)
        for seed in range(3)
    )


def crossed(cells):
    found = effects(cells)
    return found[(found.kind == "interaction")].iloc[0]


def test_additive_designs_show_no_interaction_and_others_do():
    draw = np.random.default_rng(0)
    assert np.mean([crossed(factorial(draw))["p"] < 0.05 for _ in range(100)]) <= 0.1
    assert np.mean([crossed(factorial(draw, 6.0))["p"] < 0.05 for _ in range(20)]) >= 0.9
    assert crossed(factorial(draw))["df"] == 4


def test_levels_intervals_cover():
    draw = np.random.default_rng(1)
    covered = []
    for _ in range(100):
        found = effects(factorial(draw))
        level = found[(found.kind == "level") & (found.axis == "loss")]
        covered += [
            low <= truth <= high
            for low, high, truth in zip(level["low"], level["high"], (-1, 0, 1), strict=True)
        ]
    assert np.mean(covered) >= 0.92


def test_an_interaction_that_cannot_be_estimated_is_not_claimed():
    draw = np.random.default_rng(2)
    one = factorial(draw).query("seed == 0")
    row = crossed(one)
    assert np.isnan(row["value"]) and np.isnan(row["p"]) and "nothing is left" in row["note"]


def test_holm_against_statsmodels_definition():
    assert holm(np.array([0.01, np.nan, 0.04, 0.03])).tolist() == pytest.approx(
        [0.03, np.nan, 0.06, 0.06], nan_ok=True
    )
    assert len(holm(np.array([]))) == 0
