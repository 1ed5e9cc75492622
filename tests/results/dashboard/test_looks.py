"""Curves of validation on the page."""

import pandas as pd

from harness.results.dashboard import looks

CHOSEN = {"the best of each loss": [("ce", "a", "a: 1"), ("<i>", "b", "b: 2"), ("kl", "c", "c")]}
LOOKS = pd.DataFrame(
    {"id": ["a", "a", "b", "b"], "step": [5.0, 10.0, 5.0, 10.0], "acc": [0.1, 0.9, 0.2, None]}
)


def test_a_line_a_cell_and_one_at_the_target():
    group = pd.DataFrame({"evaluation.target": [None, 0.8]})
    figure = looks.curves(CHOSEN, LOOKS, group, "acc")
    a, b, target = figure["choices"][0]["data"]
    assert (a["name"], a["x"], a["y"]) == ("ce", [5, 10], [0.1, 0.9])
    assert (b["name"], b["y"]) == ("&lt;i&gt;", [0.2, None])
    assert (target["x"], target["y"]) == ([5, 10], [0.8, 0.8])
    assert "Target: 0.8" in figure["note"]


def test_without_a_target_or_looks_there_is_none():
    assert len(looks.curves(CHOSEN, LOOKS, pd.DataFrame(), "acc")["choices"][0]["data"]) == 2
    assert looks.curves(CHOSEN, None, pd.DataFrame(), "acc")["choices"] == []
    assert looks.curves(CHOSEN, LOOKS, pd.DataFrame(), "fid")["choices"] == []
