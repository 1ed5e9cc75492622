"""Which recipes the page calls best, nearly as good, and not beaten by cheaper ones."""

import numpy as np
import pandas as pd
import pytest

from harness.results.dashboard import answers


@pytest.mark.parametrize("better", ["max", "min"])
def test_nearly_as_good_is_within_a_percent_or_the_interval(better):
    sign = 1 if better == "max" else -1
    values = {"n": 1, "n_diverged": 0, "sd": np.nan, "baseline": 0.0}
    axes = {"model": "m", "schedule": "s", "parallel": "single"}
    own = pd.DataFrame(
        {"loss": loss, "mean": 10 - sign * off, "train_s": s, "ci_low": np.nan, "ci_high": np.nan}
        | axes
        | values
        for loss, off, s in (("a", 0.0, 9.0), ("b", 0.09, 5.0), ("c", 0.5, 1.0))
    )
    assert answers.best(own, better)["near"]["loss"] == "b"
    own.loc[0, ["ci_low", "ci_high"]] = [9.4, 10.6]
    assert answers.best(own, better)["near"]["loss"] == "c"
    assert answers.best(own.tail(1), better)["near"] is None


def test_the_pareto_front_holds_what_nothing_cheaper_beats():
    cost, value = np.array([1.0, 2.0, 3.0, 3.0]), np.array([5.0, 6.0, 4.0, 4.5])
    assert answers.pareto(cost, value, "min").tolist() == [True, False, True, False]
    assert answers.pareto(cost, value, "max").tolist() == [True, True, False, False]
