"""VGG (note 94) under every loss, schedule and parallel configuration of the profile."""

import pytest


@pytest.mark.decathlon(topic="vgg")
def test_vgg(record):
    assert record.status in ("done", "diverged"), record.reason
    if record.status == "done":
        assert all(v is not False for v in record.checkpoint.values()), record.checkpoint
        assert record.parity.get("equal") is not False, record.parity
