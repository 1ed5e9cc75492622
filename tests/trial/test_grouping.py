"""Which cells train as populations."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from toy_population import SHORT, Crowded

from harness.axes import schedules
from harness.cell import Cell
from harness.trial import population
from harness.trial.grouping import SMALLEST, Grouping
from harness.trial.task import Task

CELLS = st.builds(
    Cell,
    st.just("toy"),
    st.sampled_from(["line", "dropout", "other"]),
    st.sampled_from(["mse", "ce"]),
    st.sampled_from(schedules.NAMES),
    st.sampled_from(["single", "ddp"]),
    st.integers(0, 3),
    settings=st.sampled_from([(), (("width", "8"),)]),
)


@settings(max_examples=50, deadline=None)
@given(some=st.lists(CELLS, unique=True, max_size=80), most=st.sampled_from([1, 8, 32]))
def test_grouping_keeps_every_cell_once_and_only_like_ones_together(some, most):
    tasks = [Task(Crowded(), cell, SHORT, Path("run")) for cell in some]
    found = Grouping(most).group(tasks)
    assert sorted(cell for task in found for cell in task.cells) == sorted(some)
    for task in found:
        if isinstance(task, population.PopulationTask):
            assert SMALLEST <= len(task.tasks) <= most
            assert {own.cell.parallel for own in task.tasks} == {"single"}
            assert len({(c.model, c.loss, c.settings) for c in task.cells}) == 1
            assert task.cell.model in Crowded.populates
