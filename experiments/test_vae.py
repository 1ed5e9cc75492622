"""Train the VAE (note 93) under every loss, schedule and parallelism of the profile."""

import pytest

from harness.cell import Cell

RECIPE = Cell("vae", "vae", "ce", "one_cycle")


@pytest.mark.decathlon(topic="vae")
def test_vae(decathlon_record):
    record = decathlon_record
    record.check()
    if record.profile != "smoke" and record.cell == RECIPE:
        simple = (record.evaluation["histogram_bits"], record.evaluation["gaussian_bits"])
        assert record.metrics["bits_per_dim"] < min(simple)
