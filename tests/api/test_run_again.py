"""``harness.run`` called twice in one session, between which data and code have changed."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import harness
from harness.trial.outcome import Outcome

CELL = "mine/net-ce-cosine-single-s0"
HELPERS = "from torch import nn\n\ndef net():\n    return nn.Linear(4, 2)\n"


@pytest.fixture
def helpers(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "helpers.py").write_text(HELPERS)
    importlib.invalidate_caches()
    yield importlib.import_module("helpers")
    del sys.modules["helpers"]


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Call ``harness.run`` without training, and return its record's dataset and fingerprint."""

    def train(run, cells, minutes):
        for cell in cells:
            run.keep(cell, Outcome())

    monkeypatch.setattr("harness.api.run._train", train)

    def call(topic):
        kept = harness.run(topic, "smoke", folder=tmp_path / "run", select=[CELL]).record(CELL)
        return kept.dataset, kept.fingerprint

    return call


@pytest.fixture
def topic(helpers):
    x, y = np.eye(4, dtype="float32").repeat(10, 0), np.arange(40) % 2
    given = {"data": (x, y), "task": "classification", "batch_size": 8}
    return harness.Supervised("mine", models={"net": helpers.net}, **given)


def test_data_that_changed_in_place_are_other_data(topic, told):
    before = told(topic)
    assert told(topic) == before
    _, y = topic.data.value
    y[:20] = 1 - y[:20]
    after = told(topic)
    assert after[0] != before[0] and after[1] != before[1]


def test_code_that_was_loaded_again_is_other_code(topic, helpers, told):
    """As ``%autoreload 2`` does it: the function that the topic holds has the new code too."""
    net, before = helpers.net, told(topic)
    Path(helpers.__file__).write_text(HELPERS.replace("4, 2)", "4, 2, bias=False)"))
    assert told(topic) == before
    importlib.reload(helpers)
    net.__code__ = helpers.net.__code__
    assert told(topic)[1] != before[1]
