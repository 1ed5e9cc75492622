"""Style transfer (note 93) under every loss, schedule and parallel configuration here."""

import pytest


@pytest.mark.decathlon(topic="style_gan")
def test_style_gan(record):
    assert record.status in ("done", "diverged"), record.reason
    if record.status == "done":
        assert all(v is not False for v in record.checkpoint.values()), record.checkpoint
        assert record.parity.get("equal") is not False, record.parity
