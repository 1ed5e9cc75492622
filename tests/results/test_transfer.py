"""Gain over single-task networks, worked by hand, and how the page shows harm."""

import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from harness.cell import Cell
from harness.results import dashboard, tables
from harness.results.columns import Tables
from harness.results.dashboard import sections
from harness.results.record import Record
from harness.results.summary import summary
from harness.results.transfer import COLUMNS, transfer

ALONE = {"accuracy": "only_a", "error": "only_b"}
DIRECTIONS = {"accuracy": "max", "error": "min"}


def record(model, loss="ce", parallel="single", seed=0, status="done", alone=ALONE, **metrics):
    return Record(
        Cell("pair", model, loss, "cosine", parallel, seed),
        "f",
        status,
        metrics=metrics,
        directions=DIRECTIONS,
        alone=alone,
    ).to_dict()


def gains(*records):
    frame = transfer(tables.cells(records))
    return {(row.model, row.metric): row.gain for row in frame.itertuples()}, frame


SINGLE = [record("only_a", accuracy=0.8), record("only_b", error=2.0)]


def test_gains_are_signed_by_the_metrics_direction_and_delta_m_is_their_mean():
    """Maninis et al. 2019: accuracy .8 -> .9 is +12.5 %, error 2 -> 3 is -50 %."""
    found, frame = gains(*SINGLE, record("both", accuracy=0.9, error=3.0))
    assert found == {
        ("both", "accuracy"): pytest.approx(0.125),
        ("both", "error"): pytest.approx(-0.5),
    }
    assert frame["delta_m"].tolist() == pytest.approx([-0.1875] * 2)
    assert frame["alone_id"].tolist() == [
        "pair/only_a-ce-cosine-single-s0",
        "pair/only_b-ce-cosine-single-s0",
    ]


def test_what_diverged_gains_what_an_untrained_network_would():
    lost = record("both", status="diverged") | {"baseline": {"accuracy": 0.2, "error": 6.0}}
    found, frame = gains(*SINGLE, lost)
    assert found == {
        ("both", "accuracy"): pytest.approx(-0.75),
        ("both", "error"): pytest.approx(-2.0),
    }
    assert set(frame["status"]) == {"diverged"}
    assert gains(record("only_a", status="diverged"), record("both", accuracy=0.9))[1].empty


def test_the_page_says_how_sure_a_gain_is():
    cells = [record("only_a", seed=s, accuracy=0.8) for s in range(3)]
    cells += [record("only_b", seed=s, error=2.0) for s in range(3)]
    cells += [record("both", seed=s, accuracy=0.8, error=2.0 - s / 10) for s in range(3)]
    found = sections.transfer(transfer(tables.cells(cells)), "pair")["rows"][0]
    # gains of error 0, 0.05, 0.1; delta_m half of that: mean 0.025, standard error 0.025 / sqrt 3
    assert found["delta_m"] == pytest.approx(0.025)
    assert found["half"] == pytest.approx(4.302653 * 0.025 / 3**0.5)
    assert (found["trained"], found["n"]) == (3, 3)


def test_only_the_same_loss_and_seed_compare_and_ranks_fall_back_to_single():
    both = {"accuracy": 0.9, "error": 2.0}
    _, frame = gains(*SINGLE, record("both", loss="mse", **both), record("both", seed=1, **both))
    assert frame.empty and list(frame) == COLUMNS
    ddp = record("only_a", parallel="ddp", accuracy=0.6)
    found, frame = gains(*SINGLE, ddp, record("both", parallel="ddp", **both))
    assert found["both", "accuracy"] == pytest.approx(0.5), "ddp's own reference"
    assert found["both", "error"] == 0, "single's where ddp has none"


def test_what_is_missing_gives_no_mean():
    both = record("both", accuracy=0.9, error=2.0)
    _, frame = gains(SINGLE[0], both)
    assert frame["metric"].tolist() == ["accuracy"] and frame["delta_m"].isna().all()
    _, frame = gains(record("only_a", accuracy=0.0), SINGLE[1], both)
    assert frame["gain"].isna().tolist() == [True, False] and frame["delta_m"].isna().all()
    _, frame = gains(*SINGLE, record("both", status="diverged"))
    assert frame.empty


def test_other_topics_have_no_rows():
    assert transfer(tables.cells([record("m", alone={}, accuracy=1.0)])).empty
    assert list(transfer(tables.cells([]))) == COLUMNS


def page(*records):
    cells = tables.cells(records)
    curves = tables.curves(records)
    found = Tables(cells, curves, summary(cells), tables.effects(cells), transfer=transfer(cells))
    html = dashboard.render(found, "t")
    return html.replace(get_plotlyjs(), "")


def test_the_page_shows_gain_in_green_and_harm_in_red():
    html = page(*SINGLE, record("both", accuracy=0.9, error=3.0))
    assert '<span class="good">+12.5 %</span>' in html
    assert '<span class="bad">-50.0 %</span>' in html and '<span class="bad">-18.8 %' in html
    assert "What each task gains" not in page(record("m", alone={}, accuracy=1.0))


def test_it_is_written_and_read(tmp_path):
    written = tables.write([*SINGLE, record("both", accuracy=0.9, error=3.0)], tmp_path)
    read = pd.read_csv(tmp_path / "transfer.csv", dtype={"settings": str}).fillna({"settings": ""})
    pd.testing.assert_frame_equal(read, written.transfer, check_dtype=False)
