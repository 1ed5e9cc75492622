"""Cells' ids, fingerprints and what people mistype."""

import re
from dataclasses import replace

import pytest
from _pytest.mark.expression import Expression
from hypothesis import given
from hypothesis import strategies as st

from harness.cell import Budget, Cell, UsageError, unknown
from harness.fingerprint import fingerprint


def fits(settings):
    """Whether an id can hold settings."""
    try:
        return bool(Cell("a", "b", "c", "d", settings=settings))
    except UsageError:
        return False


names = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
rates = st.none() | st.floats(-4, 4).map(lambda power: float(f"{10**power:.3g}"))
fields = st.from_regex(r"[A-Za-z_]\w{0,6}(\.[a-z]\w{0,6})?", fullmatch=True)
texts = st.text(min_size=1, max_size=8) | st.sampled_from(["-1", "1e-5", "s0", "r3", "64+64", "-"])
settings = st.dictionaries(fields, texts, max_size=2).map(lambda told: tuple(sorted(told.items())))
seeds = st.integers(0, 10**6)
plain = st.builds(Cell, names, names, names, names, names, seeds, rates)
cells = plain | st.builds(replace, plain, settings=settings.filter(fits))


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


def test_settings_are_in_the_id_of_a_cell_that_has_them():
    told = (("lr", "0.01"), ("shift", "-1"), ("sizes", "64+64"), ("style", "a b-c"))
    cell = Cell("mine", "mlp", "ce", "cosine", rate=0.3, settings=told)
    assert cell.id == (
        "mine/mlp-ce-cosine-single-r0.3-lr-0.01-shift--1-sizes-64+64-style-a%20b%2Dc-s0"
    )
    assert cell.settings_text == "lr=0.01 shift=-1 sizes=64+64 style=a b-c"


@given(cells)
def test_an_id_is_the_name_of_a_file(cell):
    assert re.fullmatch(r"[\w.+%-]+", cell.id.split("/", 1)[1])
    assert len(cell.id) < 250  # with .json at its end, 255 bytes are a name's most


def test_k_can_have_a_cell_s_settings():
    told = (("optimizer.lr", "0.01"), ("sizes", "64+64"))
    cell = Cell("mine", "mlp", "ce", "cosine", settings=told)
    chosen = Expression.compile("optimizer.lr-0.01- and sizes-64+64")
    assert chosen.evaluate(lambda name, /, **_: name in cell.id)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ((("lr", ""),), "setting lr='': a field's name and a value are needed"),
        ((("l-r", "1"),), "setting l-r='1': a field's name"),
        ((("b", "1"), ("a", "1")), "settings b, a: each once, sorted by name"),
        ((("a", "1"), ("a", "2")), "settings a, a: each once, sorted by name"),
        ((("a", "x" * 120),), "an id holds 120 characters of them"),
    ],
)
def test_settings_that_no_id_can_hold_are_refused(settings, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        Cell("vgg", "vgg11", "ce", "cosine", settings=settings)


def test_a_cell_without_settings_has_the_fingerprint_that_it_had_before_there_were_any():
    assert fingerprint(cell=Cell("vgg", "vgg11", "ce", "cosine")) == "220b7263e95c"


@pytest.mark.parametrize("text", ["x-%ff", "x", "x-", "0x-1", "x-1-y"])
def test_what_is_no_setting_of_an_id_is_refused(text):
    with pytest.raises(UsageError):
        Cell.parse(f"vgg/vgg11-ce-cosine-single-{text}-s0")
