"""What a record says of itself."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cell import Cell, Status
from harness.results.record import Record

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
EQUAL = {"state_equal": True, "resume_equal": True, "metrics_equal": True}
EXACT = {"difference": 1e-7, "exact": True, "equal": True, "reason": ""}
INEXACT = {"difference": 2e-3, "exact": False, "equal": None, "reason": "compressed"}


def record(status=Status.DONE, parallel="single", **fields):
    cell = Cell("toy", "line", "mse", "cosine", parallel)
    return Record(cell, "f", status, **{"checkpoint": EQUAL, **fields})


@pytest.mark.parametrize(
    "holds",
    [
        record(),
        record(fitted=True, checkpoint=EQUAL | {"resume_equal": None}),
        record(unrepeatable=["put_"], checkpoint=EQUAL | {"resume_equal": False}),
        record(parallel="ddp", parity=EXACT),
        record(parallel="ddp_bf16", parity=INEXACT),
        record(accumulate=4, parity=EXACT),
        record(Status.DIVERGED, checkpoint={}),
    ],
)
def test_a_record_of_which_all_holds_passes(holds):
    holds.check()


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (record(checkpoint={}), "its checkpoints were not audited"),
        (record(checkpoint=EQUAL | {"state_equal": False}), "checkpoint state_equal is False"),
        (record(checkpoint=EQUAL | {"resume_equal": None}), "checkpoint resume_equal is None"),
        (record(checkpoint={"state_equal": True}), "checkpoint metrics_equal is None"),
        (
            record(unrepeatable=["put_"], checkpoint=EQUAL | {"state_equal": False}),
            "checkpoint state_equal is False",
        ),
        (record(parallel="ddp"), "parity was not measured"),
        (record(accumulate=2), "parity was not measured"),
        (record(parallel="fsdp", parity=EXACT | {"equal": False}), "differ from single's by 1e-07"),
        (record(parallel="local_sgd", parity=INEXACT | {"reason": ""}), "no reason is given"),
        (record(Status.FAILED, reason="rank 1 died"), "failed: rank 1 died"),
        (record(Status.TIMEOUT, reason="not done"), "timeout: not done"),
        (record(Status.SKIPPED, reason="needs two GPUs"), "skipped: needs two GPUs"),
    ],
)
def test_one_of_which_something_does_not_hold_or_was_not_measured_fails(broken, says):
    with pytest.raises(AssertionError, match=says):
        broken.check()


@pytest.mark.parametrize("status", list(Status))
def test_it_comes_back_from_json(status):
    one = record(status, reason="so", diverged_at=7, curve={"step": [1.0], "loss": [float("nan")]})
    text = json.dumps(one.to_dict())
    back = Record.from_dict(json.loads(text))
    assert back.status is status and json.dumps(back.to_dict()) == text
    assert replace(back, curve={}) == replace(one, curve={})


HUGE = 10**400
DEEP = json.loads("[" * 500 + "]" * 500)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": "fine"}, "Invalid enum value 'fine'"),
        ({"id": "other"}, "id and axes disagree"),
        ({"seed": "0"}, "Expected `int`, got `str`"),
        ({"seed": True}, "Expected `int`, got `bool`"),
        ({"seed": HUGE}, "more than 64 bits"),
        ({"topic": "../x"}, "is no name"),
        ({"reason": None}, "Expected `str`, got `null`"),
        ({"metrics": {"accuracy": "0.9"}}, "Expected `float`, got `str`"),
        ({"metrics": {"accuracy": True}}, "Expected `float`, got `bool`"),
        ({"metrics": {"accuracy": HUGE}}, "more than 64 bits"),
        ({"metrics": [0.9]}, "Expected `object`, got `array`"),
        ({"metrics": {"x" * 201: 1.0}}, "a name has more than 200 characters"),
        ({"metrics": {f"m{i}": 1.0 for i in range(1001)}}, "an object is too long"),
        ({"directions": {"accuracy": "up"}}, "matching regex"),
        ({"directions": {"accuracy": "max\n"}}, "matching regex"),
        ({"curve": {"step": [1.0], "loss": [1.0, 2.0]}}, "are not equally long"),
        ({"curve": {"step": [1.0], "loss": ["x"]}}, "Expected `float`, got `str`"),
        ({"curve": {"step": [0.0] * 100_001}}, "an array is too long"),
        ({"budget": {"steps": "many", "batch_size": 1}}, "Expected `int`, got `str`"),
        ({"world_size": 0}, "Expected `int` >= 1"),
        ({"evaluation": {"real": HUGE}}, "more than 64 bits"),
        ({"evaluation": {"deep": DEEP}}, "nested deeper than 16"),
        ({"checkpoint": {"state_equal": "yes"}}, "got `str`"),
        ({"parity": {"exact": True}}, "missing required field"),
        ({"data_notes": "all of it"}, "Expected `array`, got `str`"),
        ({"version": "1"}, "its version is no number"),
    ],
)
def test_what_is_no_record_is_refused(change, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        Record.from_dict(record().to_dict() | change)


def test_an_older_record_lacks_what_came_later():
    values = record().to_dict()
    for name in ("version", "data_notes", "population", "traceback"):
        del values[name]
    assert Record.from_dict(values) == record()


def test_the_records_that_ship_can_be_read():
    found = sorted(REFERENCE.rglob("*--*.json"))
    assert found
    for path in found:
        assert Record.from_dict(json.loads(path.read_bytes())).status is Status.DONE


def test_texts_are_printable_and_have_a_length():
    long = "start" + "x" * 20_000_000 + "end"
    odd = record(
        reason=long, traceback=long, evaluation={"how": long, "n": 3}, command="a\udcff\x1b"
    )
    assert len(odd.reason) <= 2000 and len(odd.traceback) <= 20_000
    assert len(odd.evaluation["how"]) <= 2000 and odd.evaluation["n"] == 3
    assert odd.reason.startswith("startx") and odd.reason.endswith("xend")
    assert "19998068 characters left out" in odd.reason
    assert odd.command == r"a\udcff\x1b"
    assert Record.from_dict(json.loads(json.dumps(odd.to_dict()))) == odd


def test_what_an_older_version_wrote_too_long_is_cut_when_it_is_read():
    values = record().to_dict() | {"reason": "\udcff" * 5000, "data_notes": ["\0" * 5000]}
    found = Record.from_dict(json.loads(json.dumps(values)))
    assert len(found.reason) <= 2000 and found.reason.startswith(r"\udcff")
    assert len(found.data_notes[0]) <= 2000
