"""What the page's sections make of tables that lack something."""

import numpy as np
import pandas as pd

from harness.results.dashboard import sections

MODEL = {"topic": "gan", "model": "dcgan"}


def test_scaling_without_single_has_no_share_of_its_memory():
    rates = ("step_ms", "samples_per_s", "speedup", "efficiency", "sent_mb", "state_mb")
    table = pd.DataFrame({**MODEL, "parallel": ["ddp", "fsdp"], "ranks": 2, "peak_memory_mb": 1.0})
    (found,) = sections.scaling(table.assign(**dict.fromkeys(rates, [1.0, np.nan])))
    assert [row["parallel"] for row in found["rows"]] == ["ddp", "fsdp"]
    assert all(np.isnan(row["memory"]) for row in found["rows"])


def test_a_pair_that_was_not_measured_is_a_gap_in_the_grid():
    table = pd.DataFrame(
        {**MODEL, "saved_under": saved, "loaded_under": loaded, "difference": difference}
        for saved, loaded, difference in (("a", "a", 1.0), ("b", "b", 2.0), ("b", "a", 3.0))
    ).assign(saved_ranks=1, loaded_ranks=1, state_equal=True, data_equal=True)
    (found,) = sections.resharding(table)
    assert found["columns"] == ["a x 1", "b x 1"]
    assert found["rows"]["a x 1"][1] is None
    assert [row["difference"] for row in found["rows"]["b x 1"]] == [3.0, 2.0]


def test_notes_are_listed_once_and_the_first_20_of_them():
    table = pd.DataFrame({"data_notes": ["a\nb", "", "b\nc"]})
    assert sections.data_notes(table) == ["a", "b", "c"]
    many = pd.DataFrame({"data_notes": ["\n".join(f"note {i}" for i in range(50))]})
    assert sections.data_notes(many)[19:] == ["note 19", "and 30 more in cells.csv"]
    assert sections.data_notes(pd.DataFrame({"id": ["x"]})) == []


def test_a_loss_that_cannot_train_a_topic_is_named_once_with_the_reason():
    cells = pd.DataFrame({"loss": ["mae", "mae", "ce"], "untrainable": ["flat", "flat", ""]})
    assert sections.untrainable(cells) == [("mae", "flat")]
    assert sections.untrainable(cells.drop(columns="untrainable")) == []


def test_energy_has_a_column_beside_memory_once_a_cell_s_is_known():
    cells = pd.DataFrame({"id": ["a", "b"], "status": "done", "cost.peak_memory_mb": 9.0})
    cells["order"] = [0, 1]
    for frame in (cells, cells.assign(**{"cost.energy_j": np.nan})):
        assert "energy J" not in sections.cells_table(frame, 5)["columns"]
    table = sections.cells_table(cells.assign(**{"cost.energy_j": [np.nan, 12.5]}), 5)
    at = table["columns"].index("energy J")
    assert table["columns"][at - 1] == "peak MiB"
    assert [row[at - 1 : at + 1] for row in table["rows"]] == [[9.0, None], [9.0, 12.5]]
