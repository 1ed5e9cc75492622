"""What a record says of itself."""

import json
from dataclasses import replace

import pytest

from harness.cell import Cell, Status
from harness.results.record import Record

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


@pytest.mark.parametrize("change", [{"status": "fine"}, {"id": "other"}, {"seed": "0"}])
def test_what_is_no_record_is_refused(change):
    with pytest.raises((ValueError, TypeError)):
        Record.from_dict(record().to_dict() | change)
