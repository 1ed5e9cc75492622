"""Train PixelCNN (note 93) under every loss, schedule and parallelism of the profile."""

import pytest

from harness.cell import Cell

RECIPE = Cell("pixelcnn", "pixelcnn", "ce", "one_cycle")


@pytest.mark.decathlon(topic="pixelcnn")
def test_pixelcnn(decathlon_record):
    record = decathlon_record
    record.check()
    if record.profile != "smoke" and record.cell == RECIPE:
        simple = (record.evaluation["histogram_bits"], record.evaluation["gaussian_bits"])
        assert record.metrics["bits_per_dim"] < min(simple)
