"""Installed topics and a project's own: broken ones cost themselves only, names are unique."""

import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest
from toy import Toy
from toy_population import Crowded

from harness.cell import UsageError
from harness.topics import registry
from harness.topics.regression import Regression


@dataclass(frozen=True)
class Demanding(Toy):
    needed: int = 0
    dataset: str = "digits"

    name: ClassVar[str] = "demanding"

    def __post_init__(self):
        if self.dataset != "digits":
            raise UsageError(f"unknown dataset {self.dataset!r}")


@dataclass(frozen=True)
class Unmade(Toy):
    name: ClassVar[str] = "unmade"

    def __post_init__(self):
        raise ValueError("planted")


@dataclass(frozen=True)
class Wrong(Toy):
    name: ClassVar[str] = "wrong"
    models: ClassVar = "mlp"


made = Toy()


@pytest.fixture
def installed(monkeypatch):
    """Let these be the only entry points of topics."""

    def install(**values):
        points = [EntryPoint(name, value, registry.GROUP) for name, value in values.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: points)

    return install


def test_a_broken_entry_point_costs_itself_only(installed, tmp_path, monkeypatch):
    (tmp_path / "leaves_at_import.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    installed(
        gone="no_such_module:Topic",
        absent="toy:Absent",
        leaves="leaves_at_import:Topic",
        an_instance=f"{__name__}:made",
        no_topic="toy:Budget",
        unmade=f"{__name__}:Unmade",
        wrong=f"{__name__}:Wrong",
        toy="toy:Toy",
    )
    topics, broken = registry.installed_topics()
    assert topics == {"toy": Toy()}
    assert all("\n" not in line for line in broken)
    for line, name, why in zip(
        broken,
        ("gone", "absent", "leaves", "an_instance", "no_topic", "unmade", "wrong"),
        (
            "No module named 'no_such_module'",
            "has no attribute 'Absent'",
            "SystemExit: 3",
            "no class derived from harness.Topic",
            "no class derived from harness.Topic",
            "ValueError: planted",
            "models = ('mlp') is text",
        ),
        strict=True,
    ):
        assert line.startswith(f"topic {name} is left out: its entry point ") and why in line
    sys.modules.pop("leaves_at_import", None)


def test_the_broken_are_warned_of(installed):
    installed(gone="no_such_module:Topic", toy="toy:Toy")
    with pytest.warns(UserWarning, match="topic gone is left out"):
        assert list(registry.registered_topics()) == ["toy"]


def test_options_reach_the_topics_that_have_them_and_a_refused_one_is_bad_input(installed):
    installed(demanding=f"{__name__}:Demanding", toy="toy:Toy")
    topics = registry.registered_topics(needed=3, download=True, dataset=None)
    assert topics == {"demanding": Demanding(needed=3), "toy": Toy()}
    with pytest.raises(UsageError, match="unknown dataset 'mnst'"):
        registry.registered_topics(dataset="mnst")


def test_two_topics_of_one_name_are_refused(installed):
    installed(toy="toy:Toy", crowded="toy_population:Crowded")
    message = r"two topics are named 'toy': Toy \(.*toy.py\) and Crowded \(.*toy_population.py\)"
    with pytest.raises(UsageError, match=message):
        registry.installed_topics()
    for own in ([Crowded()], [Toy(at=3)]):
        with pytest.raises(UsageError, match="two topics are named 'toy'"):
            registry.with_own({"toy": Toy()}, [own])
    installed(toy="toy:Toy", again="toy:Toy")
    assert registry.installed_topics() == ({"toy": Toy()}, [])


def test_hooks_may_return_several_topics_one_or_none():
    theirs = {"regression": Regression()}
    for returned in ([[Toy()]], [Toy()], [None, (Toy(),)], [iter([Toy()])], [[Toy()], [Toy()]]):
        assert registry.with_own(theirs, returned) == theirs | {"toy": Toy()}
    assert registry.with_own(theirs, [None, []]) == theirs and list(theirs) == ["regression"]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("toy", "pytest_decathlon_topics returned 'toy': a list of topics is needed"),
        ({"toy": Toy()}, "returned {'toy': Toy("),
        (3, "returned 3: a list"),
        (Toy, "is a class: give an instance, Toy()"),
        ([Toy], "is a class: give an instance, Toy()"),
        ([Wrong()], "topic Wrong (tests/topics/test_registry.py): models = ('mlp') is text"),
    ],
)
def test_what_is_no_topic_is_named(returned, message):
    with pytest.raises(UsageError) as caught:
        registry.with_own({}, [returned])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_topic_whose_setting_is_found_unfit_later_is_there():
    """Whether an environment is known is not asked before all that registers some is imported."""
    topics, broken = registry.installed_topics(env="Nope-v0")
    assert not broken
    with pytest.raises(UsageError, match="unknown environment 'Nope-v0'"):
        topics["rl"].prepare()
