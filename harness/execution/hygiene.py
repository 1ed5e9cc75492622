"""See whether a task left its worker process as it was: if not, it is not used again."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from harness.axes import precision


def surroundings() -> dict[str, Any]:
    """Return by name all that one task could change for the next in the same process.

    Of the environment and the threads only what a task takes away or leaves running counts: an
    import may add variables and daemon threads.
    """
    return {
        "standard streams": [_seen(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "standard files": [_file(number) for number in range(3)],
        "current directory": _or_none(os.getcwd),
        "child processes": _has_children(),
        "environment": dict(os.environ),
        "threads": [t for t in threading.enumerate() if not t.daemon],
        "signal handlers": [signal.getsignal(number) for number in signal.valid_signals()],
        "umask": _umask(),
        "process group": dist.is_initialized(),
        "torch's settings": (
            torch.get_default_dtype(),
            torch.get_default_device(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.is_anomaly_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            precision.reduced(),
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.enabled,
            torch.backends.mkldnn.enabled,
            [torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")],
        ),
        "NumPy's settings": np.geterr(),
        "warnings that are errors": [one[1:] for one in warnings.filters if one[0] == "error"],
    }


def spoiled(before: dict[str, Any]) -> list[str]:
    """Return the names of what differs from ``before``, the process's surroundings at its start."""
    now = surroundings()
    kept = {name: now["environment"].get(name) for name in before["environment"]}
    now["environment"] = kept
    return [name for name, value in before.items() if now[name] != value]


def _seen(stream: Any) -> tuple[int, bool]:
    return id(stream), stream is not None and stream.closed


def _file(number: int) -> tuple[int, int] | None:
    """Return which file a descriptor stands for; None if it is closed."""
    found = _or_none(lambda: os.fstat(number))
    return found and (found.st_dev, found.st_ino)


def _or_none(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except OSError:
        return None


def _has_children() -> bool:
    """Return whether this process has children, alive or not waited for.

    False on macOS before Python 3.13, where there is no way to ask.
    """
    if not hasattr(os, "waitid"):
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
