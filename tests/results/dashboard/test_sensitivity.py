"""Lines of validation against the learning rate."""

import pandas as pd

from harness.results.dashboard import sensitivity


def trials():
    rows = [
        ("t", "m", "ce", "cosine", rate, share, 0, "done", "acc", "max", value)
        for share, values in ((9, {0.1: 0.2, 1.0: 0.6, 10.0: None}), (1, {0.1: 0.8, 1.0: 0.7}))
        for rate, value in values.items()
    ]
    rows += [("t", "m", "mse", "<b>", r, 9, 0, "done", "acc", "max", r) for r in (1.0, 3.0)]
    rows += [("t", "m", "kl", "dead", r, 9, 0, "diverged", "acc", "max", None) for r in (1.0, 3.0)]
    rows += [("t", "other", "ce", "cosine", 1.0, 9, 0, "done", "mse", "min", 1.0)]
    columns = ["topic", "model", "loss", "schedule", "rate", "share", "seed", "status"]
    frame = pd.DataFrame(rows, columns=[*columns, "metric", "direction", "value"])
    return frame.assign(second=float("nan"))


def test_a_line_a_recipe_a_choice_a_share_and_a_large_dot_at_the_best_rate():
    figure = sensitivity.curves(trials(), "t", "acc", "max")
    assert [choice["label"] for choice in figure["choices"]] == ["1 in 9 steps", "all steps"]
    ce, mse = figure["choices"][0]["data"]  # what never trained has no line, but a title elsewhere
    assert ce["name"] == "ce, cosine" and mse["name"] == "mse, &lt;b&gt;"
    assert (ce["x"], ce["y"]) == ([0.1, 1.0, 10.0], [0.2, 0.6, None])
    assert ce["marker"]["size"] == [5, 12, 5]
    (whole,) = figure["choices"][1]["data"]
    assert whole["marker"]["size"] == [12, 5]


def test_each_model_is_a_choice_of_its_own():
    two = pd.concat([trials(), trials().assign(model="a")])
    labels = [choice["label"] for choice in sensitivity.curves(two, "t", "acc", "max")["choices"]]
    assert labels == [f"{m}, {s}" for s in ("1 in 9 steps", "all steps") for m in ("a", "m")]


def test_the_best_rate_of_what_is_to_be_low_is_the_lowest():
    figure = sensitivity.curves(trials(), "t", "acc", "min")
    assert figure["choices"][0]["data"][0]["marker"]["size"] == [12, 5, 5]


def test_the_large_dot_is_the_rate_that_the_search_takes():
    """Of equal values that of the best second one, then the nearest to 1; what diverged is last."""
    equal = trials().query("loss == 'ce' and share == 9 and model == 'm'").assign(value=0.0)
    ce = sensitivity.curves(equal.assign(second=[0.1, 0.2, 0.5]), "t", "acc", "max")
    assert ce["choices"][0]["data"][0]["marker"]["size"] == [5, 5, 12]
    near = sensitivity.curves(equal, "t", "acc", "max")
    assert near["choices"][0]["data"][0]["marker"]["size"] == [5, 12, 5]
    broken = pd.concat([equal, equal.assign(seed=1, value=[float("nan"), 1.0, 2.0])])
    broken.loc[broken["rate"] == 10.0, "value"] = [5.0, float("nan")]
    rest = sensitivity.curves(broken, "t", "acc", "max")
    assert rest["choices"][0]["data"][0]["marker"]["size"] == [5, 12, 5]


def test_without_a_search_there_is_no_figure():
    assert sensitivity.curves(None, "t", "acc", "max")["choices"] == []
    assert sensitivity.curves(trials(), "t", "f1", "max")["choices"] == []
