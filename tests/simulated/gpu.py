"""A simulated GPU: numbers are computed on the CPU, the rules of CUDA's devices are kept.

    with gpu.device() as log:
        x = torch.ones(3).to("cuda")  # device cuda:0, its numbers in an ordinary tensor inside
        x + torch.ones(3)             # raises MixedError, as CUDA would
    log.counts("")                    # copies and waits

A tensor here is a wrapper subclass whose device is a GPU, so that what PyTorch checks above its
kernels is PyTorch's own. A dispatch mode below autograd checks what the kernels' wrappers would,
unwraps, computes on the CPU, and wraps again. ``driver.c``, preloaded, gives PyTorch a device.
"""

from __future__ import annotations

import contextlib
import operator
import re
from collections import Counter
from pathlib import Path

import torch
import torchgen
from recurrent import KERNELS
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_infra_mode

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
TRACE = torch._C._TorchDispatchModeKey.PROXY  # make_fx's mode, which PyTorch puts below this one

# operators that take tensors of both devices; that index; that let no CPU scalar pass
BOTH = {
    *("copy_", "copy", "_to_copy", "_copy_from", "_foreach_copy_", "_foreach_copy"),
    *("is_same_size", "set_", "resize_as_", "_reshape_alias"),
}
INDEXING = {"index", "index_put_", "index_put", "_index_put_impl_", "_unsafe_index"}
STRICT = {"stack", "cat", "embedding", "_fused_adam_", "_fused_adamw_", "_fused_sgd_"}
# operators for which the host waits, to know a size or a value
WAITS = {
    *("_local_scalar_dense", "equal", "nonzero", "masked_select", "bincount", "histc"),
    *("_unique", "_unique2", "unique_consecutive", "unique_dim", "linalg_eigh", "_linalg_eigh"),
}
RESHAPING = {"transpose_", "squeeze_", "unsqueeze_", "t_"}  # in place
RANDOM = {
    *("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like"),
    *("normal", "normal_", "uniform_", "random_", "bernoulli", "bernoulli_", "exponential_"),
    *("multinomial", "native_dropout", "geometric_", "cauchy_", "log_normal_", "poisson"),
}


class MixedError(RuntimeError):
    """Raised where an operator meets tensors of both devices and CUDA would not allow it."""


class Simulated(torch.Tensor):
    """A tensor on a GPU, ``where``, whose numbers are in ``inner``, on the CPU."""

    inner: torch.Tensor
    where: torch.device
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner, where=GPU):
        about = {"dtype": inner.dtype, "layout": inner.layout, "device": where}
        where = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        return torch.Tensor._make_wrapper_subclass(cls, inner.size(), **about, **where)

    def __init__(self, inner, where=GPU):
        self.inner, self.where = inner, where

    def __repr__(self, **_):
        return f"Simulated({self.inner!r})"

    def tolist(self):  # PyTorch refuses both for subclasses
        return self.cpu().tolist()

    def numpy(self, **_):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})


class Log:
    """Counts, by phase, copies (h2d, d2h; h2d-async where the host does not wait) and waits."""

    def __init__(self):
        self.events: Counter = Counter()
        self.now = ""

    @contextlib.contextmanager
    def phase(self, name):
        before, self.now = self.now, name
        yield
        self.now = before

    def add(self, kind):
        self.events[self.now, kind] += 1

    def counts(self, phase):
        return {kind: n for (own, kind), n in self.events.items() if own == phase}


LOG = Log()
GENERATOR = torch.Generator()  # the device's own


def _rules():
    """Return by operator whether it has a CUDA kernel that checks its tensors' devices."""
    path = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    entries = re.split(r"\n(?=- func: )", path.read_text())
    named = ((re.match(r"- func: ([\w.]+)\(", entry), entry) for entry in entries)
    return {
        match[1]: ("CUDA" in entry or "structured_delegate" in entry)
        and "device_check: NoCheck" not in entry
        for match, entry in named
        if match
    }


CHECKED = _rules()


def check(func, name, flat, args):
    """Raise MixedError where CUDA would refuse; return the CPU tensors that it would copy over."""
    tensors = [t for t in flat if isinstance(t, torch.Tensor)]
    ours = [t for t in tensors if isinstance(t, Simulated)]
    theirs = [t for t in tensors if not isinstance(t, Simulated) and t.device == CPU]

    def refuse(why):
        raise MixedError(f"{func}: expected all tensors to be on the same device ({why})")

    if name not in BOTH and len({t.where for t in ours}) > 1:
        refuse("they are on several GPUs")
    if not ours or not theirs or name in BOTH:
        return []
    if name in INDEXING:
        if not isinstance(args[0], Simulated):
            refuse("a CPU tensor is indexed by a GPU's")
        if any(v.dim() for v in args[2:] if isinstance(v, torch.Tensor) and v.device == CPU):
            refuse("values to put")
        return theirs
    if name in ("masked_fill", "masked_fill_"):
        if not all(isinstance(t, Simulated) for t in args[:2]) or theirs[0].dim():
            refuse("what is filled, its mask or the value")
        return []
    if name.startswith("_foreach_") and isinstance(args[0], list | tuple):
        lists = [a for a in args if isinstance(a, list | tuple) and a]
        for row in zip(*(a for a in lists if isinstance(a[0], torch.Tensor)), strict=False):
            if len({isinstance(t, Simulated) for t in row if t.dim()}) > 1:
                refuse("a row of foreach")
        return []
    overload = func._schema.overload_name
    if name in STRICT or CHECKED.get(f"{name}.{overload}" if overload else name, False):
        refuse("no CPU scalar either")
    first = func._schema.arguments[0].alias_info
    writes = first is not None and first.is_write
    if any(t.dim() for t in theirs) or (writes and not isinstance(args[0], Simulated)):
        refuse("a CPU tensor that is no scalar, or is written to")
    if len(theirs) > 1 and name != "where":
        refuse("several CPU scalars")
    return theirs if name == "where" else []


def dispatch(func, args, kwargs):
    """Run an operator, on the CPU, as the device would."""
    name = func._schema.name.partition("::")[2]
    if name == "is_pinned":  # page-locked memory is CUDA's to give
        return False
    if name in ("pin_memory", "_pin_memory"):
        return args[0].clone()
    if torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None:
        return func(*args, **kwargs)  # a trace notes what its values look like
    flat = _leaves((*args, *kwargs.values()))
    ours = next((t for t in flat if isinstance(t, Simulated)), None)
    asked = next((d for d in flat if isinstance(d, torch.device)), None)
    if ours is None and (asked is None or asked.type != "cuda"):
        return func(*args, **kwargs)
    if name == "device":
        return ours.where
    target = asked or ours.where
    if target.type == "cuda" and target.index is None:
        target = GPU
    if target.type == "cuda" and any(isinstance(g, torch.Generator) for g in flat):
        raise MixedError(f"{func}: expected a generator of cuda")  # there are none here
    for _ in check(func, name, flat, args):
        LOG.add("h2d")
    if name in ("_to_copy", "copy_"):
        _note_copy(name, args, kwargs, target)
    masks = (t for t in (args[1] if name in INDEXING else ()) if isinstance(t, torch.Tensor))
    if name in WAITS or any(t.dtype in (torch.bool, torch.uint8) for t in masks):
        LOG.add("wait")
    wrapped = {id(t.inner if isinstance(t, Simulated) else t): t for t in _tensors(flat)}
    with _own_numbers() if name in RANDOM else contextlib.nullcontext():
        inner = {key: _mapped(_plain, value) for key, value in kwargs.items()}
        out = KERNELS.get(name, func)(*_mapped(_plain, args), **inner)

    if name in RESHAPING:  # what wraps it has a shape of its own
        with no_dispatch():
            func(*args, **kwargs)

    def wrap(value):
        if not isinstance(value, torch.Tensor):
            return value
        known = wrapped.get(id(value))
        if known is not None:
            return known
        return Simulated(value, target) if target.type == "cuda" else value

    return _mapped(wrap, out)


def _leaves(values):
    """Return what an operator takes, without its lists (a pytree takes far longer)."""
    flat = []
    for value in values:
        if isinstance(value, tuple | list):
            flat += _leaves(value)
        else:
            flat.append(value)
    return flat


def _mapped(do, value):
    if isinstance(value, tuple | list):
        return type(value)(_mapped(do, part) for part in value)
    return do(value)


def _tensors(flat):
    return [t for t in flat if isinstance(t, torch.Tensor)]


def _plain(value):
    if isinstance(value, Simulated):
        return value.inner
    return CPU if isinstance(value, torch.device) and value.type == "cuda" else value


def _note_copy(name, args, kwargs, target):
    """Count a copy between the devices."""
    source = args[1] if name == "copy_" else args[0]
    into = isinstance(args[0], Simulated) if name == "copy_" else target.type == "cuda"
    if isinstance(source, Simulated) != into:
        later = kwargs.get("non_blocking") or (name == "copy_" and args[2:] == (True,))
        LOG.add(("h2d" if into else "d2h") + ("-async" if later else ""))


@contextlib.contextmanager
def _own_numbers():
    """Draw random numbers from the device's generator for the block."""
    before = torch.get_rng_state()
    torch.set_rng_state(GENERATOR.get_state())
    yield
    GENERATOR.set_state(torch.get_rng_state())
    torch.set_rng_state(before)


untraced = contextlib.contextmanager(_disable_infra_mode)


class Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        trace = torch._C._get_dispatch_mode(TRACE)
        if trace is None:
            return dispatch(func, args, kwargs or {})
        with untraced(TRACE), self:  # the trace notes it, and then it is computed here
            return trace.__torch_dispatch__(func, types, args, kwargs or {})


@contextlib.contextmanager
def device():
    """Have one GPU for the block; yields the log of copies and waits."""
    import torch._dynamo
    import torch._subclasses.fake_tensor as fakes
    import torch.fx.experimental.proxy_tensor as traces
    import torch.optim.optimizer as optimizers
    import torch.utils._foreach_utils as foreach

    cuda, future, c = torch.cuda, torch.__future__, torch._C
    nothing = lambda *_, **__: None  # noqa: E731
    current = [0]
    patches = {
        "_lazy_init": nothing,
        "_initialized": True,
        "is_initialized": lambda: True,
        "current_device": lambda: current[0],
        "set_device": lambda one: operator.setitem(current, 0, getattr(one, "index", one) or 0),
        "default_generators": (GENERATOR,) * cuda.device_count(),
        "synchronize": lambda *_: LOG.add("wait"),
        "get_device_name": lambda *_: "Simulated GPU",
        "get_device_capability": lambda *_: (9, 0),
        "is_bf16_supported": lambda *_: True,
        "reset_peak_memory_stats": nothing,
        "max_memory_allocated": lambda *_: 2**20,
        "empty_cache": nothing,
        "is_current_stream_capturing": lambda: False,
    }
    LOG.__init__()  # type: ignore[misc]
    GENERATOR.manual_seed(0)
    with contextlib.ExitStack() as stack:
        for name, value in patches.items():
            stack.callback(setattr, cuda, name, getattr(cuda, name))
            setattr(cuda, name, value)
        for listed in (optimizers._foreach_supported_types, foreach._foreach_supported_types):
            listed.append(Simulated)
            stack.callback(listed.remove, Simulated)
        stack.callback(setattr, traces, "HANDLED_TYPES", traces.HANDLED_TYPES)
        traces.HANDLED_TYPES += (Simulated,)  # else a buffer would leave the trace
        stack.callback(setattr, fakes, "init_gpu_context", fakes.init_gpu_context)
        fakes.init_gpu_context = nothing  # it takes memory, which torch 2.11 asks the stub for
        overwrite = future.get_overwrite_module_params_on_conversion()
        stack.callback(future.set_overwrite_module_params_on_conversion, overwrite)
        future.set_overwrite_module_params_on_conversion(True)
        stack.callback(setattr, torch.backends.cudnn, "enabled", torch.backends.cudnn.enabled)
        torch.backends.cudnn.enabled = False  # else batch_norm would choose cuDNN's operator
        stack.callback(c._set_only_lift_cpu_tensors, c._only_lift_cpu_tensors())
        c._set_only_lift_cpu_tensors(True)  # so that torch.tensor(..., device=) copies in sight
        stack.enter_context(Mode())
        yield LOG
