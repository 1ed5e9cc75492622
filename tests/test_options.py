"""Options read off dataclasses' fields, the same for pytest and for the command line."""

import argparse
import shlex

import pytest

from harness import options
from harness.cell import UsageError
from harness.topics import GAN, RL, VGG, Multitask, Regression
from harness.topics.options import TOPIC_OPTIONS, ImageOptions

KINDS = (options.RunOptions, *TOPIC_OPTIONS)


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    options.add(parser.add_argument, KINDS)
    return parser.parse_args(arguments)


def test_what_is_not_given_is_not_told():
    assert options.given(parsed(), KINDS) == {}
    assert options.RunOptions(**options.given(parsed(), [options.RunOptions])).world_size == 2


def test_values_have_their_fields_types_and_flags_none():
    chosen = parsed("--world-size", "4", "--seeds", "3", "--rerun", "--download", "--env", "A-v0")
    told = {"world_size": 4, "seeds": 3, "rerun": True, "download": True, "env": "A-v0"}
    assert options.given(chosen, KINDS) == told
    assert options.given(chosen, [ImageOptions]) == {"download": True}


def test_only_some_can_be_declared():
    parser = argparse.ArgumentParser()
    options.add(parser.add_argument, KINDS, only=["profile"])
    assert vars(parser.parse_args([])) == {"profile": None}


@pytest.mark.parametrize("topic", [GAN, RL, VGG, Multitask, Regression])
def test_topics_have_the_fields_that_options_set(topic):
    own = [kind for kind in TOPIC_OPTIONS if issubclass(topic, kind)]
    assert own and all(getattr(topic(), name) == value for name, value in vars(own[0]()).items())


def test_told_again_they_read_as_they_were():
    told = {"data_dir": "/a folder/it's", "world_size": 4, "download": True}
    again = options.given(parsed(*shlex.split(options.arguments(told))), KINDS)
    assert again == told


@pytest.mark.parametrize(
    ("field", "least"),
    [("world_size", 1), ("accumulate", 1), ("retries", 0), ("seeds", 1), ("timeout", 1)],
)
def test_numbers_have_their_least(field, least):
    options.RunOptions(**{field: least})
    words = field.replace("_", " ")
    with pytest.raises(UsageError, match=f"{words} {least - 1}: it must be {least} or more"):
        options.RunOptions(**{field: least - 1})
