"""The copies by which agents act, of networks that FSDP has sharded."""

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from harness.axes import parallel
from harness.topics.rl.acting import CPU, Acting


def test_copies_of_sharded_networks_have_all_that_was_learned(tmp_path):
    with parallel.process_group(0, 1, f"file://{tmp_path}/meeting"):
        network, copy = nn.Linear(3, 2), nn.Linear(3, 2)
        learned = {key: value.clone() for key, value in network.state_dict().items()}
        fully_shard(network, mesh=init_device_mesh("cpu", (1,)))
        assert all(map(parallel.is_sharded_tensor, network.state_dict().values()))
        acting = Acting({"q": network}, CPU, {"q": copy}).now()["q"]
        assert acting is copy
        assert all(torch.equal(copy.state_dict()[key], value) for key, value in learned.items())
