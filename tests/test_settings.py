"""Settings of topics and budgets, from text to the topic that a cell trains."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
from toy import Toy

from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell, UsageError
from harness.runs import Run
from harness.settings import Settings, of_text, set_topic, values

SPEC = OptimizerSpec("sgd", lr=0.05)
BUDGET = Budget(steps=20, batch_size=8, expected_s=1.0)


@dataclass(frozen=True)
class Mine(Toy):
    """looks: its own, not its budget's."""

    name: ClassVar[str] = "mine"
    optimizer: OptimizerSpec = SPEC
    sizes: tuple[int, ...] = (8, 8)
    width: int | None = None
    low: int = 0
    high: int = 1
    looks: float = 0.5

    def __post_init__(self):
        if self.low >= self.high:
            raise UsageError("low must be below high")

    def base_optimizer(self, model):
        return self.optimizer


TOPICS = {"mine": Mine(), "toy": Toy()}
CELL = Cell("mine", "line", "mse", "cosine")


def of(*texts):
    return Settings.of(map(of_text, texts), TOPICS)


def test_fixed_values_are_in_the_topic_and_of_others_nothing_changes():
    told = of(
        "mine.width=32", "mine.sizes=64+32", "mine.optimizer.lr=1e-3", "mine.low=5", "mine.high=9"
    )
    found = told.applied(TOPICS)
    assert found["toy"] is TOPICS["toy"]
    spec = OptimizerSpec("sgd", lr=0.001)
    assert found["mine"] == Mine(optimizer=spec, sizes=(64, 32), width=32, low=5, high=9)
    assert told.cells([CELL]) == [CELL]
    assert told.arguments("mine").startswith(" --set mine.width=32 --set mine.sizes=64+32")
    assert told.arguments("toy") == ""


def test_a_later_setting_wins():
    assert of("mine.width=1,2", "mine.width=3") == of("mine.width=3")


def test_swept_values_make_each_cell_once_for_each_combination():
    told = of("mine.width=16,none", "mine.optimizer.lr=0.010,1e-3", "toy.turns=2,3")
    cells = told.cells([CELL, replace(CELL, topic="toy")])
    assert [cell.settings_text for cell in cells] == [
        "optimizer.lr=0.01 width=16",
        "optimizer.lr=0.01 width=none",
        "optimizer.lr=0.001 width=16",
        "optimizer.lr=0.001 width=none",
        "turns=2",
        "turns=3",
    ]
    topic = set_topic(TOPICS["mine"], cells[2].settings)
    assert topic.optimizer.lr == 0.001 and topic.width == 16
    assert values(topic, told.of_cell(cells[1])) == {"width": "none", "optimizer.lr": 0.01}


def test_a_budget_is_set_where_the_topic_has_no_field_so_named():
    told = of("mine.steps=40", "mine.batch_size=4,16", "mine.looks=3", "mine.timeout_s=9")
    (small, large) = told.cells([CELL])
    assert told.budget(TOPICS["mine"], small, BUDGET) == Budget(40, 4, timeout_s=9, expected_s=1.0)
    assert told.budget(TOPICS["mine"], large, BUDGET).expected_s == 4.0
    assert told.applied(TOPICS)["mine"] == Mine(looks=3.0)
    assert told.budget(TOPICS["toy"], replace(CELL, topic="toy"), BUDGET) is BUDGET


def test_what_only_watches_decides_no_number():
    assert of("toy.looks=3", "toy.timeout_s=9").deciding() == set()
    assert of("toy.steps=3,4", "mine.low=0").deciding() == {"toy", "mine"}


def test_a_run_tells_cells_of_other_settings_apart(tmp_path):
    told = of("mine.width=16,32", "mine.steps=10,20", "mine.low=-1")
    run = Run(tmp_path, told.applied(TOPICS), "smoke", settings=told)
    cells = told.cells([CELL])
    assert [run.topic(cell).width for cell in cells] == [16, 32, 16, 32]
    assert [run.budget(cell).steps for cell in cells] == [10, 10, 20, 20]
    assert {run.task(cell).topic.low for cell in cells} == {-1}
    assert len({run.fingerprint(cell) for cell in [*cells, CELL]}) == 5
    assert run.topic(cells[0]) is run.topic(cells[0])


@dataclass(frozen=True)
class Named(Toy):
    name: str = "mine"


def test_a_name_that_is_a_field_is_no_setting():
    with pytest.raises(UsageError, match="unknown field 'name' of mine: choose from"):
        Settings.of([("mine.name", ["other"])], {"mine": Named()})


@dataclass(frozen=True)
class Held:
    made: int = field(init=False, default=1)
    given: int = 2


@dataclass(frozen=True)
class Holding(Toy):
    held: Held = Held()
    inner: Held = field(init=False, default=Held())
    pairs: tuple[tuple[str, int], ...] = ()
    name: ClassVar[str] = "mine"


@pytest.mark.parametrize("path", ["nothing", "held.made", "inner.given"])
def test_what_cannot_be_set_is_neither_taken_nor_listed(path):
    with pytest.raises(UsageError, match=f"unknown field '{path}' of mine: choose from ") as error:
        Settings.of([(f"mine.{path}", ["3"])], {"mine": Holding()})
    listed = str(error.value).split("choose from ")[1].split(", ")
    assert "held.given" in listed and not {"held.made", "inner.given", "pairs"} & set(listed)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mine.widht=3", "unknown field 'widht' of mine: choose from width, "),
        ("mine.timeout=3", "unknown field 'timeout' of mine: choose from timeout_s, "),
        ("mine.optimizer=sgd", "unknown field 'optimizer' of mine: choose from optimizer."),
        ("mine.optimizer.rl=1", "unknown field 'optimizer.rl' of mine: choose from optimizer.lr, "),
        ("mne.width=3", "unknown topic 'mne': choose from mine, toy"),
        ("mine.width=wide", "mine.width=wide: it takes a whole number or none"),
        ("mine.width=1,,2", "mine.width='': a value of printable text is needed"),
        ("mine.misbehave=a\nb", "mine.misbehave='a\\nb': a value of printable text is needed"),
        ("mine.width=1,1.0", "mine.width=1,1: a value is there twice"),
        ("mine.sizes=64,32", "mine.sizes=64: it takes a whole number or several, joined by +"),
        ("mine.width", "set 'mine.width': it reads TOPIC.FIELD=VALUE"),
        ("width=3", "set 'width=3': it reads TOPIC.FIELD=VALUE"),
        ("mine.low=1", "mine.low=1: low must be below high"),
        ("mine.optimizer.kind=adm", "mine.optimizer.kind=adm: topic Mine "),
        ("mine.steps=0", "mine.steps=0: the budget has steps 0: a whole number from 1 is needed"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(text, says):
    with pytest.raises(UsageError) as error:
        told = of(text)
        told.applied(TOPICS)
        told.budget(TOPICS["mine"], CELL, BUDGET)
    assert str(error.value).startswith(says) and "\n" not in str(error.value)


def test_a_cell_names_a_setting_that_its_topic_has(tmp_path):
    run = Run(tmp_path, TOPICS, "smoke")
    with pytest.raises(UsageError, match="unknown field 'wdth' of mine: choose from width"):
        run.skip_reason(replace(CELL, settings=(("wdth", "3"),)))
