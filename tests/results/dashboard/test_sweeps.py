"""The page's lines of a metric against the values of a swept setting."""

from harness.cell import Cell
from harness.results import tables
from harness.results.dashboard import answers, sweeps
from harness.results.record import Record
from harness.results.summary import summary

NAMES = {"a 0": 0.5, "a 1": 0.6, "a 2": 0.7}


def record(name, width, seed):
    settings = (("name", name), ("width", str(width)))
    return Record(
        Cell("t", "m", "ce", "cosine", seed=seed, settings=settings),
        "f",
        "done",
        set_to={"name": name, "width": width},
        metrics={"acc": NAMES[name] + width / 1000},
        directions={"acc": "max"},
    ).to_dict()


def test_texts_with_spaces_are_values_of_their_own_and_the_other_settings_are_named():
    cells = tables.cells(record(n, w, seed) for n in NAMES for w in (16, 32) for seed in (0, 1))
    own = answers.configurations(summary(cells), "t", "acc", "max")
    names, widths = sweeps.curves(own, "acc", cells)["choices"]
    lines = {line["name"]: (line["x"], line["y"]) for line in names["data"]}
    assert lines["m with ce, cosine, width=16"] == (list(NAMES), [0.516, 0.616, 0.716])
    assert lines["m with ce, cosine, width=32"] == (list(NAMES), [0.532, 0.632, 0.732])
    assert (names["label"], widths["label"]) == ("name", "width")
    lines = {line["name"]: line["x"] for line in widths["data"]}
    assert lines == {f"m with ce, cosine, name={name}": [16, 32] for name in NAMES}
