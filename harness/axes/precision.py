"""The precision in which networks compute while they train, beside full float32.

tf32 multiplies in 10 bits on a GPU's tensor cores. bf16 runs networks under autocast: products and
convolutions in bfloat16, parameters, their gradients, and what an objective does beside calling
networks, such as its loss, in float32. compiled is float32 by
``torch.compile``, on a GPU replayed as CUDA graphs. Evaluation is in float32 always.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
import torch._functorch.config as functorch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from harness.axes.parallel import CONFIGURATIONS, TOLERANCE, is_sharded
from harness.files import cache_folder

# by how much first losses and gradients may differ from fp32's, relative; 0.16 was seen in bf16
# over 68 pairs of the topics' models and losses
TOLERANCES = {"fp32": TOLERANCE, "tf32": 0.05, "bf16": 0.3, "compiled": TOLERANCE}
COMPILER = "clang++" if sys.platform == "darwin" else "g++"  # that PyTorch calls, or $CXX


def skip_reason(name: str, parallel: str, devices: int) -> str | None:
    """Return why networks cannot train in a precision here, as a sentence; None if they can.

    parallel: the configuration; devices: GPUs there are, none for the CPU.
    """
    if name == "tf32" and not devices:
        return "tf32 is how a GPU multiplies: there is none here"
    if name == "bf16" and parallel == "dp":
        return "under dp it would be float16: torch tells dp's threads of autocast, not of its type"
    if name == "compiled":
        if parallel == "dp" or is_sharded(parallel) or parallel in CONFIGURATIONS.own:
            return f"compiled networks are not trained under {parallel} here"
        compiler = os.environ.get("CXX") or COMPILER
        if not shutil.which(compiler):
            return f"torch.compile needs a C++ compiler, and there is no {compiler}"
    return None


def prepared(
    name: str, networks: Mapping[str, nn.Module], device: torch.device
) -> Mapping[str, nn.Module]:
    """Return networks as a training is to call them; the ones given stay as they evaluate.

    A compiled one is compiled at its first call, which takes seconds, for its batch's shape.
    """
    if name == "bf16":
        _Autocast(networks, device)
    if name != "compiled":
        return networks
    set_compiler()
    mode = "reduce-overhead" if device.type == "cuda" else None
    made: Any = {
        key: torch.compile(network, mode=mode, dynamic=False) for key, network in networks.items()
    }
    return made


def set_compiler() -> None:
    """Have ``torch.compile`` compile in this process alone, and give uncompiled code's numbers."""
    from torch._inductor import config as inductor  # imported late: it takes a second

    inductor.compile_threads = 1  # a worker has one thread, and no processes that outlive it
    inductor.fallback_random = True  # dropout draws what it draws uncompiled
    # an objective may go back through a graph twice, as pcgrad does; what was compiled without that
    # in mind PyTorch takes from its cache all the same, and computes wrong gradients
    functorch.donated_buffer = False
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder("compiled")))
    torch.compiler.reset()  # what an earlier training has compiled would make shapes variable


_objective = ContextVar("objective", default=False)  # whether one is at work in bf16


@contextmanager
def objective(name: str) -> Iterator[None]:
    """Have networks called in a precision for the block, in which an objective calls them."""
    token = _objective.set(name == "bf16")
    try:
        yield
    finally:
        _objective.reset(token)


class _Autocast:
    """Has what an objective calls of networks under autocast to bfloat16, and nothing else.

    Also where it calls a part of one, such as an encoder. What comes out is in float32 again.
    """

    def __init__(self, networks: Mapping[str, nn.Module], device: torch.device) -> None:
        self.device, self.depth = device.type, 0
        self.context: AbstractContextManager[Any] = nullcontext()
        for part in {part for network in networks.values() for part in network.modules()}:
            part.register_forward_pre_hook(self._enter)
            part.register_forward_hook(self._leave, always_call=True)

    def _enter(self, part: nn.Module, given: Any) -> None:
        if _objective.get():
            if self.depth == 0:
                self.context = torch.autocast(self.device, torch.bfloat16)
                self.context.__enter__()
            self.depth += 1

    def _leave(self, part: nn.Module, given: Any, outputs: Any) -> Any:
        self.depth = max(0, self.depth - 1)
        if self.depth or not _objective.get():
            return None
        self.context.__exit__(None, None, None)
        return tree_map(_in_float32, outputs)


@contextmanager
def step(name: str, device: torch.device) -> Iterator[None]:
    """Compute in a precision for the block, a training's step: forward, backward and update."""
    if name == "compiled" and device.type == "cuda":
        torch.compiler.cudagraph_mark_step_begin()
    with multiplying(tf32=True) if name == "tf32" else nullcontext():
        yield


@contextmanager
def multiplying(tf32: bool) -> Iterator[None]:
    """Have a GPU's products and convolutions for the block in TF32, or else in full float32."""
    before = reduced()[:2]
    _multiply_in_tf32(tf32, tf32)
    try:
        yield
    finally:
        _multiply_in_tf32(*(how == "tf32" for how in before))


def reduced() -> list[str]:
    """Return what products and convolutions on a GPU, and products on a CPU, are reduced to.

    tf32 or bf16; empty: nothing. PyTorch has an older and a newer way of setting it, and raises
    where the older is read after the newer was used otherwise: this reads the newer.
    """
    backends: Any = torch.backends
    places = backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul
    return [how if (how := place.fp32_precision) in ("tf32", "bf16") else "" for place in places]


def _multiply_in_tf32(products: bool, convolutions: bool) -> None:
    """Set whether a GPU multiplies so, in PyTorch's older way and its newer, which then agree."""
    torch.backends.cuda.matmul.allow_tf32 = products  # which sets the newer way too
    cudnn: Any = torch.backends.cudnn
    cudnn.allow_tf32 = convolutions
    for part in (cudnn.conv, cudnn.rnn):
        part.fp32_precision = "tf32" if convolutions else "ieee"


def _in_float32(out: Any) -> Any:
    return out.float() if isinstance(out, Tensor) and out.is_floating_point() else out
