"""Cells' ids, fingerprints and what people mistype."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cell import Budget, Cell, UsageError, unknown
from harness.fingerprint import fingerprint

names = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
rates = st.none() | st.floats(-4, 4).map(lambda power: float(f"{10**power:.3g}"))
cells = st.builds(Cell, names, names, names, names, names, st.integers(0, 10**6), rates)


@given(cells)
def test_an_id_reads_back(cell):
    assert Cell.parse(cell.id) == cell


@given(cells, cells)
def test_ids_and_fingerprints_tell_cells_apart(a, b):
    assert (a.id == b.id) == (a == b) == (fingerprint(cell=a) == fingerprint(cell=b))


@pytest.mark.parametrize("text", ["", "vgg", "vgg/vgg11-ce-cosine-ddp", "vgg/a-b-c-d-sX"])
def test_text_that_is_no_id_is_refused(text):
    with pytest.raises(UsageError, match="is no cell id"):
        Cell.parse(text)


def test_a_name_that_would_break_ids_is_refused():
    with pytest.raises(UsageError, match="'a-b' is no name"):
        Cell("vgg", "a-b", "ce", "cosine")


@pytest.mark.parametrize("rate", [0, -1.0, 1e-5, 2e4, 1 / 3, float("nan"), "3", True])
def test_a_rate_that_no_id_can_hold_is_refused(rate):
    with pytest.raises(UsageError, match="a multiple of the topic's learning rate"):
        Cell("vgg", "vgg11", "ce", "cosine", rate=rate)


def test_a_rate_is_in_the_id_of_a_cell_that_has_its_own():
    assert Cell("vgg", "vgg11", "ce", "cosine", rate=0.3).id == "vgg/vgg11-ce-cosine-single-r0.3-s0"
    assert Cell("vgg", "vgg11", "ce", "cosine").id == "vgg/vgg11-ce-cosine-single-s0"
    with pytest.raises(UsageError, match="rate '0.3.1' of"):
        Cell.parse("vgg/vgg11-ce-cosine-single-r0.3.1-s0")


def test_a_budget_changes_the_fingerprint():
    assert fingerprint(budget=Budget(1, 2)) != fingerprint(budget=Budget(2, 2))


def test_the_nearest_allowed_value_comes_first():
    assert str(unknown("loss", "hubr", ["ce", "mae", "huber"])).endswith("huber, ce, mae")


def test_of_many_allowed_values_the_nearest_are_named():
    allowed = [f"Env{number}-v0" for number in range(100)]
    text = str(unknown("environment", "Env7-v1", allowed))
    assert text.startswith("unknown environment 'Env7-v1': choose from Env7-v0, ")
    assert text.endswith(" and 92 more") and text.count("-v0") == 8
    assert " more" not in str(unknown("topic", "vg", ["vgg", "gan"]))
