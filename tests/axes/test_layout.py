"""What a layout does with networks that no outcome of a training shows."""

import pytest
import torch
from torch import nn

from harness.axes import parallel
from harness.axes.parallel.layout import Layout


@pytest.fixture
def group(tmp_path):
    with parallel.process_group(0, 1, f"file://{tmp_path}/meeting"):
        yield


def test_averaged_parameters_stay_where_they_are(group):
    """CUDA graphs and kernels chosen by alignment depend on it."""
    network = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1))
    layout = Layout("local_sgd", {"model": network}, {"player": ("model",)})
    before = {name: value.clone() for name, value in network.state_dict().items()}
    places = [parameter.data_ptr() for parameter in network.parameters()]
    layout.average()
    assert places == [parameter.data_ptr() for parameter in network.parameters()]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
