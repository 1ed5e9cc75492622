"""What tables say of recipes that trained to no finite value of their primary metric."""

import numpy as np
import pandas as pd
import pytest

from harness.results.effects import effects
from harness.results.improvement import improvement
from harness.results.summary import summary

STATISTICS = ["mean", "sd", "iqm", "ci_low", "ci_high", "validation"]


def cells(recipes):
    """Each recipe's seeds, by loss: test value, validation value, a further metric."""
    rows = [
        {"topic": "t", "model": f"m{loss}", "loss": "ce", "schedule": "cosine"}
        | {"parallel": "single", "seed": seed, "primary": "odds", "rate": 1.0}
        | {"status": "done" if np.isfinite([test, validation]).all() else "unmeasured"}
        | {"metric.odds": test, "validation.odds": validation, "baseline.odds": 1.0}
        | {"metric.kid": kid, "direction.odds": "max", "direction.kid": "min"}
        for loss, seeds in recipes.items()
        for seed, (test, validation, kid) in enumerate(seeds)
    ]
    return pd.DataFrame(rows)


def row(frame, loss, metric="odds"):
    return summary(frame).set_index(["model", "metric"]).loc[(f"m{loss}", metric)]


GOOD = [(9.0, 8.0, 0.1), (9.1, 8.1, 0.2), (9.2, 8.2, 0.3)]
BAD = [(2.0, 2.1, 0.1), (2.1, 2.0, 0.2), (2.2, 2.2, 0.3)]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_an_unmeasured_recipe_has_no_statistics_and_no_other_is_best(value):
    found = row(cells({"a": GOOD, "b": BAD}), "a")
    assert found["standing"] == "best"
    odd = cells({"a": GOOD, "b": BAD, "c": [(value, value, kid) for *_, kid in GOOD]})
    lost = row(odd, "c")
    assert lost[STATISTICS].isna().all() and lost["standing"] == "unmeasured"
    assert (lost["n"], lost["trained"], lost["n_diverged"]) == (0, 0, 0)
    assert row(odd, "a")["standing"] == "tied" and row(odd, "b")["standing"] == "worse"
    kid = row(odd, "c", "kid")
    assert (kid["n"], kid["mean"]) == (3, pytest.approx(0.2))
    assert row(cells({"c": [(value, 1.0, 0.1)] * 2, "a": GOOD}), "a")["standing"] == "tied"


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_others_are_chosen_by_validation_although_one_has_no_finite_value_of_it(value):
    odd = cells({"a": GOOD, "b": BAD, "c": [*GOOD[:2], (9.0, value, 0.1)]})
    found = summary(odd)
    assert set(found.loc[found["primary"], "chosen_by"]) == {"validation"}
    assert row(odd, "a")["validation"] == pytest.approx(8.1)
    assert row(odd, "c")["standing"] == "unmeasured" and np.isnan(row(odd, "c")["mean"])


def test_a_further_metric_that_is_infinite_once_is_left_out_and_n_says_so():
    odd = [(9.0, 8.0, 1.0), (9.1, 8.1, np.inf), (9.2, 8.2, 1.0)]
    kid, odds = (row(cells({"a": odd, "b": BAD}), "a", name) for name in ("kid", "odds"))
    assert (kid["n"], kid["trained"], kid["mean"]) == (2, 2, 1.0)
    assert (odds["n"], odds["standing"]) == (3, "best")


def test_effects_and_improvement_have_nothing_of_what_is_unmeasured():
    odd = cells({"a": GOOD, "b": BAD, "c": [*GOOD[:2], (np.inf, 8.0, 0.1)]})
    pairs = improvement(odd)
    assert set(pairs["model"]) | set(pairs["other"]) == {"ma", "mb"}
    found = effects(odd)
    found = found[(found["metric"] == "odds") & (found["kind"] == "level")].set_index("level")
    assert found.loc["mc", "n"] == 2 and found.loc["ma", "n"] == 3
