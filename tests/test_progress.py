"""What a run says of its cost and of the time that is left."""

from types import SimpleNamespace

import pytest
from toy import Toy

from harness import progress
from harness.cell import Cell
from harness.runs import Run
from harness.trial import cost


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3601, "about 60 min"), (2 * 3600, "about 2.0 h"), (44 * 86400, "about 44 days")],
)
def test_a_run_of_over_an_hour_says_so_and_names_the_race(seconds, said):
    assert said in progress.warning(seconds) and "--profile race" in progress.warning(seconds)


def test_a_short_run_says_nothing():
    assert progress.warning(3600) == ""


@pytest.mark.parametrize(
    ("profile", "choosing", "warns"),
    [("full", False, True), ("full", True, False), ("race", False, False)],
)
def test_the_first_line_of_a_long_run_has_its_cost(profile, choosing, warns, tmp_path, monkeypatch):
    run = Run(tmp_path, {"toy": Toy()}, profile, choosing=choosing)
    monkeypatch.setattr(Run, "predict", lambda self, cell: 7200.0 * cost.cores())
    try:
        line = run.start([Cell("toy", "line", "mse", "cosine")])
    finally:
        run.close()
    assert ("; about 2.0 h on this machine" in line) is warns


def test_before_anything_has_ended_no_time_left_is_told():
    """Sums in another order differ by rounding, which is no work that was done."""
    cells = [Cell("toy", "line", "mse", "cosine", seed=seed) for seed in range(3)]
    wall_s = dict(zip(cells, (0.1, 0.2, 0.3), strict=True))
    assert sum(wall_s.values()) > sum(reversed(wall_s.values()))
    stands = []
    shown = progress.Progress(wall_s, print, lambda done, count, text: stands.append(text))
    shown.now([SimpleNamespace(cells=[cell]) for cell in reversed(cells)], [])
    assert "time left not known yet" in stands[0]
