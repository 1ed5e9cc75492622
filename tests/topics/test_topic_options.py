"""Fields of built-in topics that no network, data or rhythm can have: refused in one line."""

import dataclasses
import typing
from dataclasses import dataclass
from typing import ClassVar

import pytest

from harness.cell import Cell, UsageError
from harness.settings import Settings, of_text, set_topic
from harness.topics import GAN, RL, VGG
from harness.topics.options import LEAST
from harness.topics.registry import built_in, registered_topics

TOPICS = {name: topic for name, topic in registered_topics().items() if name in built_in()}
NUMBERS = [
    (name, field)
    for name, topic in TOPICS.items()
    for field, kind in typing.get_type_hints(type(topic)).items()
    if kind in (int, int | None) and field in {one.name for one in dataclasses.fields(topic)}
]


def applied(*texts):
    return Settings.of(map(of_text, texts), TOPICS).applied(TOPICS)


@pytest.mark.parametrize(("name", "field"), NUMBERS)
def test_every_whole_number_has_its_least(name, field):
    least = LEAST[field]
    for wrong in (least - 1, -3):
        with pytest.raises(UsageError) as caught:
            applied(f"{name}.{field}={wrong}")
        told = f"{name}.{field}={wrong}: {field} {wrong}: it must be {least} or more"
        assert str(caught.value) == told
    with pytest.raises(UsageError, match=f"^{field} -3: "):
        dataclasses.replace(TOPICS[name], **{field: -3})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gan.features=12", "features 12: it must be a multiple of 8"),
        ("multitask.features=10", "features 10: it must be a multiple of 4"),
        ("rl.hidden_sizes=()", "hidden_sizes (): one or more are needed, each 1 or more"),
        ("rl.hidden_sizes=64+0", "hidden_sizes 64+0: one or more are needed, each 1 or more"),
    ],
)
def test_what_a_topic_cannot_use_is_refused_fixed_or_swept(text, says):
    with pytest.raises(UsageError) as caught:
        applied(text)
    assert str(caught.value) == f"{text}: {says}"
    name, _, setting = text.partition(".")
    with pytest.raises(UsageError) as caught:
        set_topic(TOPICS[name], [tuple(setting.split("="))])
    assert str(caught.value) == f"{text}: {says}"


def test_a_rhythm_that_its_environments_cannot_keep_skips_dqn_only():
    topic = RL(num_envs=16)
    skipped = {m for m in topic.models if topic.skip(Cell("rl", m, "mse", "cosine"))}
    assert skipped == {model for model in topic.models if "dqn" in model}
    assert "a train_frequency of 10 steps is no multiple" in topic.skip(
        Cell("rl", "dqn", "mse", "cosine")
    )
    assert RL(num_envs=16, train_frequency=32).skip(Cell("rl", "dqn", "mse", "cosine")) is None


def test_what_it_can_use_is_taken():
    found = applied(
        "gan.features=8",
        "multitask.features=4",
        "vgg.width=1",
        "rl.num_envs=7",
        "rl.train_frequency=21",
        "rl.hidden_sizes=5+",
        "rl.learning_starts=0",
    )
    assert found["gan"] == GAN(features=8) and found["vgg"] == VGG(width=1)
    wanted = RL(num_envs=7, train_frequency=21, hidden_sizes=(5,), learning_starts=0)
    assert found["rl"] == wanted
    assert applied("vgg.width=none")["vgg"] == VGG()


@dataclass(frozen=True)
class Shifted(VGG):
    shift: int = -2
    features: tuple[int, ...] = (0,)
    depth: int = 0
    latents: bool = False

    name: ClassVar[str] = "shifted"


def test_fields_of_one_s_own_are_one_s_own():
    assert Shifted().shift == -2
