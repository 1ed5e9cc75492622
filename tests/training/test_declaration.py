"""A topic that is declared wrong is refused in one line that names its class and its file."""

import dataclasses
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from toy import Toy

from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, UsageError
from harness.topics.registry import installed_topics
from harness.training.declaration import check
from harness.training.topic import Topic

GOOD = Budget(steps=1, batch_size=1)


def toy(**attributes):
    """A toy topic whose class differs in these attributes."""
    return dataclass(frozen=True)(type("Mine", (Toy,), {"__module__": __name__, **attributes}))()


class ForgotToSay(Toy):
    width: int = 8


class ForgotAlone(Toy):
    misbehave = "raise"


@dataclass(frozen=True)
class WithoutType(Toy):
    at = 3


class Armed(Toy):
    def __init__(self, width):
        super().__init__()
        object.__setattr__(self, "width", width)


@dataclass(frozen=True)
class Holds(Toy):
    held: Any = None
    also: Any = ()


@dataclass
class Thawed:
    size: int = 1


@dataclass(frozen=True)
class Sizes:
    size: Any = 1


class Constants(Toy):
    """Nothing here is a hyper-parameter, so it needs no decorator."""

    name: ClassVar[str] = "constants"
    models = ("line",)
    depth: ClassVar[int] = 3
    WIDTH = 8

    @cached_property
    def data(self):
        return torch.ones(3)


class Refitted(Toy):
    """It sets what its base declares, through the base's own fields."""

    def __init__(self):
        super().__init__(seconds_a_step=0.5)


@dataclass(frozen=True)
class Bare(Topic):
    name: ClassVar[str] = "bare"
    models: ClassVar = ("mlp",)
    recipe: ClassVar = ("mse", "cosine")
    directions: ClassVar = {"mse": "min"}
    budgets: ClassVar = dict.fromkeys(("smoke", "quick", "full"), GOOD)


@dataclass(frozen=True)
class Fitted(Bare):
    fits: ClassVar = ("mlp",)

    def dataset_id(self):
        return "d"

    def evaluate(self, networks, cell):
        return {}


def local():
    class Inside(Toy):
        pass

    return Inside()


def broken(*_):
    raise KeyError("mlp")


WRONG = {
    "class": (Toy, "Toy (tests/toy.py) is a class: give an instance, Toy()"),
    "no_topic": (3, "3 is no topic: its class must derive from harness.Topic"),
    "other_class": (int, "int of builtins is a class"),
    "undecorated": (ForgotToSay(), "ForgotToSay is no dataclass, so width would not count"),
    "undecorated_default": (ForgotAlone(), "so misbehave would not count: write @dataclass"),
    "untyped": (WithoutType(), "WithoutType sets at without its type"),
    "arguments": (Armed(3), "Armed is no dataclass, so width would not count"),
    "local": (local(), "written inside a function"),
    "list": (Holds(held=[1]), "field held is or holds a list: write a tuple"),
    "dict": (Holds(also={"a": 1}), "field also is or holds a dict"),
    "set": (Holds(held={1}), "a set: write a sorted tuple"),
    "path": (Holds(held=Path("x.csv")), "a path: write str(path)"),
    "tensor": (Holds(held=torch.ones(2)), "a tensor: write a tuple of numbers"),
    "lambda": (Holds(held=lambda: 3), "a function: write what names it"),
    "inside": (Holds(held=(1, ([2],))), "a list: write a tuple"),
    "not_frozen": (Holds(held=Thawed()), "a Thawed, a dataclass that is not frozen"),
    "frozen_inside": (Holds(held=Sizes([1])), "a list: write a tuple"),
    "name": (toy(name="my topic"), "name 'my topic' is no name: lower-case letters"),
    "on_cpu_none": (toy(on_cpu=3), "on_cpu is a int: a tuple of names is needed"),
    "on_cpu_typo": (toy(on_cpu=("lien",)), "unknown model in on_cpu 'lien'"),
    "on_cpu_text": (toy(on_cpu=("line")), "on_cpu = ('line') is text, no tuple: write ('line',)"),
    "models_text": (toy(models=("line")), "models = ('line') is text, no tuple: write ('line',)"),
    "models_empty": (toy(models=()), "models is empty"),
    "models_name": (toy(models=("a-b",)), "models has 'a-b', which is no name"),
    "models_twice": (toy(models=("a", "a")), "models has a twice"),
    "models_set": (toy(models={"a"}), "models is a set: a tuple of names is needed"),
    "fits_text": (toy(fits=("line")), "fits = ('line') is text"),
    "fits_unknown": (toy(fits=("lime",)), "unknown model in fits 'lime': choose from line"),
    "populates_unknown": (toy(populates=("x",)), "unknown model in populates 'x'"),
    "both": (toy(fits=("line",), populates=("line",)), "line is in fits and in populates"),
    "untrainable": (toy(untrainable={"mea": "why"}), "unknown loss in untrainable 'mea'"),
    "untrainable text": (toy(untrainable="mae"), "untrainable is a str: a dict"),
    "looks": (toy(budget=lambda *_: replace(GOOD, looks=-1)), "has looks -1"),
    "undivided": (toy(undivided=("lin",)), "unknown model in undivided 'lin'"),
    "recipe_one": (toy(recipe=("mse")), "recipe is 'mse': the default loss and schedule"),
    "recipe_loss": (toy(recipe=("mes", "cosine")), "unknown loss in recipe 'mes': choose from mse"),
    "recipe_schedule": (toy(recipe=("mse", "cos")), "unknown schedule in recipe 'cos'"),
    "no_metric": (toy(directions={}), "directions is empty: name the primary metric first"),
    "margin": (toy(margin=-0.1), "margin is -0.1: a positive number of the primary metric"),
    "no_direction": (toy(directions={"mse": None}), "metric mse has the direction None: choose"),
    "directions_tuple": (toy(directions=("mse",)), "directions is a tuple: a dict of metrics"),
    "alone_metric": (toy(alone={"x": "line"}), "unknown metric in alone 'x': choose from"),
    "alone_model": (toy(alone={"mse": 3}), "unknown model in alone '3': choose from"),
    "methods": (Bare(), "it has no method dataset_id: see harness.Topic.dataset_id"),
    "fit": (Fitted(), "it has no method fit for mlp, a model in fits"),
    "sample": (toy(generates=True), "it has no method sample, since it generates"),
    "budgets": (toy(budgets={"smoke": GOOD, "full": GOOD}), "budgets lacks quick: it has smoke"),
    "steps": (
        toy(budget=lambda self, profile, model: replace(GOOD, steps=0)),
        "budget('smoke', 'line') has steps 0: a whole number from 1",
    ),
    "batch": (
        toy(budgets=dict.fromkeys(("smoke", "quick", "full"), replace(GOOD, batch_size=0))),
        "budgets['smoke'] has batch_size 0",
    ),
    "samples": (toy(budget=lambda *_: replace(GOOD, samples=0)), "has samples 0"),
    "timeout": (toy(budget=lambda *_: replace(GOOD, timeout_s=0)), "has timeout_s 0: seconds"),
    "expected": (toy(budget=lambda *_: replace(GOOD, expected_s=-1)), "has expected_s -1"),
    "no_budget": (toy(budget=lambda *_: 20), "is 20: a harness.Budget is needed"),
    "budget_raises": (toy(budget=broken), "KeyError: 'mlp'"),
    "optimizer": (toy(base_optimizer=lambda *_: "sgd"), "base_optimizer('line') is a str"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_declaration_is_told_in_one_line_with_class_and_file(case):
    topic, message = WRONG[case]
    with pytest.raises(UsageError) as caught:
        check(topic)
    line = str(caught.value)
    assert message in line and "\n" not in line
    if isinstance(topic, Topic) and "local" not in case:
        assert line.startswith(f"topic {type(topic).__name__} (") and ".py)" in line


@pytest.mark.parametrize("attribute", ["name", "models", "recipe", "budgets", "directions"])
def test_what_every_topic_declares_is_asked_for(attribute):
    names = {"name", "models", "recipe", "budgets", "directions"} - {attribute}
    body = {name: getattr(Bare, name) for name in names} | {"__module__": __name__}
    with pytest.raises(UsageError, match=f"{attribute} is missing: declare it, such as"):
        check(type("Lacks", (Topic,), body)())


def test_right_declarations_pass():
    for topic in (
        Toy(),
        Constants(),
        Refitted(),
        Holds(held=(1, None, "a"), also=Sizes((2.0, True))),
    ):
        check(topic)
    constants = Constants()
    assert constants.data.sum() == 3
    check(constants)
    for topic in installed_topics()[0].values():
        check(topic)
    assert {f.name for f in dataclasses.fields(Constants())} == {
        f.name for f in dataclasses.fields(Toy())
    }


def test_an_estimator_s_topic_needs_fit_and_a_baseline_only():
    body = {"fit": lambda self, cell: None, "__module__": __name__}
    with pytest.raises(UsageError, match="no method baseline, since it has no networks"):
        check(type("Grown", (Fitted,), body)())
    check(type("Grown", (Fitted,), body | {"baseline": lambda self, cell: {}})())


def test_optimizers_of_an_unknown_kind_are_named():
    with pytest.raises(UsageError, match="unknown optimizer of line 'adamx': choose from adam"):
        check(toy(base_optimizer=lambda *_: OptimizerSpec("adamx", lr=0.1)))
