"""What parallel configurations need, and how a batch is shared out."""

import pytest
import torch
from toy import Toy

from harness.axes import parallel
from harness.cell import Budget, Cell, UsageError
from harness.training.loop import Training

BUDGET = Budget(steps=20, batch_size=8, timeout_s=120)


CELL = Cell("toy", "line", "mse", "cosine")


def test_data_parallel_needs_two_gpus():
    assert "needs 2 of them: there are 1 here" in parallel.skip_reason("dp", 1)
    assert parallel.skip_reason("dp", 2) is None
    assert parallel.ranks("dp", 4) == parallel.ranks("single", 4) == 1


def test_a_batch_that_does_not_divide_is_named():
    with pytest.raises(UsageError, match="batch size 8 does not divide among 1 ranks and 3 parts"):
        Training(Toy(), CELL, BUDGET, accumulate=3)


def test_a_batch_is_shared_out_whole():
    batch = {"x": torch.arange(8), "y": torch.arange(16).view(8, 2)}
    parts = [parallel.shard(batch, rank, 4) for rank in range(4)]
    for name, tensor in batch.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), tensor)


def test_sharded_ranks_need_a_gpu_each_or_none():
    for name in ("fsdp", "fsdp_zero2"):
        assert "a GPU for each of its 2 ranks: there are 1" in parallel.skip_reason(name, 1)
        assert "a GPU for each of its 4 ranks: there are 2" in parallel.skip_reason(name, 2, 4)
        assert parallel.skip_reason(name, 0) is None is parallel.skip_reason(name, 2)
    assert parallel.skip_reason("ddp", 1) is None
