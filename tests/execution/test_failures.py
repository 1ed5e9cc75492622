"""Which rank is to blame for a hang, by where each one is and how far it has come."""

from pathlib import Path

import pytest

from harness.execution import failures

LOOP = "/site-packages/harness/training/loop.py"
AT = {
    "in a collective": ("/site-packages/torch/distributed/distributed_c10d.py", "7", "all_reduce"),
    "in a sum": ("/site-packages/harness/axes/parallel/collectives.py", "7", "full_tensors"),
    "reading losses": (LOOP, "300", "check_finite"),
    "in a step": (LOOP, "200", "_loss"),
    "in the topic": ("/mine/conftest.py", "12", "objective"),
}


@pytest.fixture
def blamed(monkeypatch):
    """Return whom the stacks of ranks at these places, after so many steps, put the blame on."""

    def find(places, steps=None):
        stacks = {str(rank): [AT[place]] for rank, place in enumerate(places)}
        monkeypatch.setattr(failures, "_stack", lambda file, start: stacks[file.name])
        monkeypatch.setattr(failures.os, "kill", lambda pid, number: None)
        files = [Path(str(rank)) for rank in range(len(places))]
        return failures.hung([0] * len(places), files, "no progress", steps=steps).reason

    return find


@pytest.mark.parametrize("place", ["in a collective", "in a sum", "reading losses"])
def test_a_rank_that_waits_for_its_peers_is_not_to_blame(blamed, place):
    assert blamed([place, "in the topic"]).endswith("rank 1 is in objective (conftest.py, line 12)")
    assert blamed([place, place]) == "no progress"


def test_of_ranks_that_seem_busy_the_one_behind_is_to_blame(blamed):
    """On a GPU a rank waits wherever the queue of what it has begun is full."""
    places = ["in a step", "in the topic", "in a step"]
    assert "rank 1 is in objective" in blamed(places, steps=[7, 5, 6])
    assert "rank 0 is in _loss" in blamed(places, steps=[5, 5, 6])
    assert "rank 0 is in _loss" in blamed(places)
