"""Style transfer (note 93) under every loss, schedule and parallel configuration here."""

import pytest


@pytest.mark.decathlon(topic="style_gan")
def test_style_gan(record):
    record.check()
