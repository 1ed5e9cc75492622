"""Measure parallel training's speed, traffic and memory, alone on the machine (note 96)."""

import pytest

from harness.studies.scaling import scaling


@pytest.mark.parametrize("name", ["vgg/vgg11", "regression/mlp"])
def test_scaling(name, decathlon_run):
    if decathlon_run.profile == "smoke":
        pytest.skip("scaling is measured in the profiles quick and full")
    table = scaling(decathlon_run, *name.split("/")).set_index("parallel")
    assert (table["samples_per_s"] > 0).all()
    if decathlon_run.world_size > 1:
        assert table["sent_mb"]["ddp_bf16"] < table["sent_mb"]["ddp"]
        if "fsdp" in table.index:  # skipped where ranks share a GPU
            assert table["state_mb"]["fsdp"] < table["state_mb"]["ddp"]
