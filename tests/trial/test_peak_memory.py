"""Peak memory: what the training itself adds, whatever the process did before."""

import sys

import pytest
import torch

from harness.trial import cost

MB = 2**18  # float32 values


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a peak since some moment")
@pytest.mark.parametrize("earlier_mb", [0, 300])
def test_what_the_process_held_before_is_not_counted(earlier_mb):
    kept, freed = torch.ones(100 * MB), torch.ones(earlier_mb * MB)
    del freed
    with cost.peak_memory(torch.device("cpu")) as peak_mb:
        torch.ones(80 * MB)  # freed at once: it counts all the same
    assert 75 < peak_mb() < 100
    assert len(kept) == 100 * MB
