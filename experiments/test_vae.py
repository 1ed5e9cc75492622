"""The VAE (note 93) under every loss, schedule and parallel configuration here."""

import pytest

from harness.cell import Cell

RECIPE = Cell("vae", "vae", "ce", "one_cycle")


@pytest.mark.decathlon(topic="vae")
def test_vae(record):
    assert record.status in ("done", "diverged"), record.reason
    if record.status == "done":
        assert all(v is not False for v in record.checkpoint.values()), record.checkpoint
        assert record.parity.get("equal") is not False, record.parity
        if record.profile != "smoke" and record.cell == RECIPE:
            simple = (record.evaluation["histogram_bits"], record.evaluation["gaussian_bits"])
            assert record.metrics["bits_per_dim"] < min(simple)
