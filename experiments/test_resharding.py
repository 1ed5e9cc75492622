"""Save under one parallel configuration and load under another (notes 96 and 100)."""

import pytest

from harness.studies.resharding import resharding


@pytest.mark.parametrize("name", ["regression/mlp", "gan/dcgan"])
def test_resharding(name, decathlon_run):
    if decathlon_run.profile == "smoke":
        pytest.skip("resharding is measured in the profiles quick and full")
    table = resharding(decathlon_run, *name.split("/"))
    assert table["state_equal"].all() and table["data_equal"].all()
    assert table["difference"].max() < 1e-3
