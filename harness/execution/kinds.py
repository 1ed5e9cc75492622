"""The executors that a run can choose from, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from harness.cell import UsageError, unknown
from harness.execution.executor import Executor
from harness.execution.local import LocalExecutor

EXECUTORS = ("local", "ray")


def executor_class(name: str, per_gpu: int = 1) -> Callable[[], Executor]:
    """Return what makes an executor of that name; with the local one ``per_gpu`` share a GPU.

    Raises UsageError if it is unknown, if Ray is not installed, or if trainings are to share its
    GPUs.
    """
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    if name == "local":
        return partial(LocalExecutor, per_gpu=per_gpu)
    if per_gpu > 1:
        raise UsageError(f"per gpu {per_gpu} is for --executor local: ray gives each rank a GPU")
    try:
        from harness.execution.cluster.executor import ClusterExecutor
    except ModuleNotFoundError as error:
        raise UsageError(
            f"executor ray is an extra ({error}): pip install torch-decathlon[ray]"
        ) from None
    return ClusterExecutor
