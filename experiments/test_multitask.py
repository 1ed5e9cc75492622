"""Train multi-task models (note 99): three tasks together, balanced in each way, and alone."""

import pytest


@pytest.mark.decathlon(topic="multitask")
def test_multitask(decathlon_record):
    record = decathlon_record
    record.check()
    if record.status == "done":
        learned = {m for m, alone in record.alone.items() if alone == record.cell.model}
        assert (learned or {*record.alone}) <= {*record.metrics}
