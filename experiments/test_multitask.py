"""Multi-task learning (note 99): three tasks together, under each balance, and each alone."""

import pytest


@pytest.mark.decathlon(topic="multitask")
def test_multitask(record):
    assert record.status in ("done", "diverged"), record.reason
    if record.status == "done":
        learned = {m for m, alone in record.alone.items() if alone == record.cell.model}
        assert (learned or {*record.alone}) <= {*record.metrics}
        assert all(v is not False for v in record.checkpoint.values()), record.checkpoint
        assert record.parity.get("equal") is not False, record.parity
