"""GANs (notes 91 and 93) under every loss, schedule and parallel configuration here."""

import pytest


@pytest.mark.decathlon(topic="gan")
def test_gan(record):
    record.check()
