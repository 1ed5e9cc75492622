"""A GPU without numbers: tensors of the CPU are as they are, those of cuda have a shape only.

An operator that meets tensors of both raises as it would on CUDA. PyTorch's own fake tensors do
that; here they are made for what is put on cuda, so that data can be read and cut on the CPU.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import (
    FakeTensor,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("cuda", 0)
MIXED = (
    *("on the same device", "different devices", "FakeTensor Device Propagation"),
    "not at the same device",  # of RNNs
)
GRU_CELL = torch.ops.aten._thnn_fused_gru_cell.default  # without an implementation for shapes
GRU_KEPT = 5  # values of a cell that it keeps for the backward pass
BACKWARD = "_engine_run_backward"  # torch's function that asks a real GPU


class _FakeGPU(TorchDispatchMode):
    """Runs operators without a tensor on the GPU as they are, and all others without numbers."""

    def __init__(self) -> None:
        super().__init__()
        self._fake = FakeTensorMode(allow_fallback_kernels=False, allow_non_fake_inputs=True)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        devices = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
        fakes = [leaf for leaf in leaves if isinstance(leaf, FakeTensor)]
        there = any(d.type == "cuda" for d in devices or [f.device for f in fakes])
        if there and any(isinstance(leaf, torch.Generator) for leaf in leaves):
            raise RuntimeError("generator and tensor must be on the same device: it is the CPU's")
        if there or fakes:
            with self._fake:
                if func is GRU_CELL:
                    state = args[2]
                    kept = state.new_empty(len(state), GRU_KEPT * state.shape[1])
                    return torch.empty_like(state), kept
                return func(*args, **kwargs)
        return func(*args, **kwargs)


@contextmanager
def fake_gpu() -> Iterator[torch.device]:
    """Have a GPU without numbers for the block, and yield it."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(torch.cuda, "_lazy_init", lambda *_: None))
        stack.enter_context(patch.object(torch.Tensor, "pin_memory", lambda tensor, *_: tensor))
        # torch.tensor(..., device=) then copies in sight of the mode
        stack.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))  # RNNs would ask its driver
        stack.enter_context(_FakeGPU())
        yield GPU


def lacks(error: BaseException) -> str:
    """Return what a GPU has and the fake one has not, by the exception that it raised."""
    if isinstance(error, UnsupportedOperatorException):
        return f"operator {error.func}"
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return "gradients" if BACKWARD in names else "numbers"


def is_mixed(error: BaseException | None) -> bool:
    """Whether an exception, or one that it came from, says that devices are mixed."""
    while error is not None:
        if any(words in str(error) for words in MIXED):
            return True
        error = error.__cause__ or error.__context__
    return False
