"""Train the topics that this package does not bring: a conftest's, and those of other packages."""

import pytest


@pytest.mark.decathlon
def test_own(decathlon_record):
    decathlon_record.check()
