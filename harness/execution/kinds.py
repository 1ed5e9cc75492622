"""The executors that a run can choose from, by name."""

from __future__ import annotations

from collections.abc import Callable

from harness.cell import UsageError, unknown
from harness.execution.executor import Executor
from harness.execution.local import LocalExecutor

EXECUTORS = ("local", "ray")


def executor_class(name: str) -> Callable[[], Executor]:
    """Return an executor's class by name. Raises UsageError if unknown or Ray is not installed."""
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    if name == "local":
        return LocalExecutor
    try:
        from harness.execution.cluster.executor import ClusterExecutor
    except ModuleNotFoundError as error:
        raise UsageError(
            f"executor ray is an extra ({error}): pip install torch-decathlon[ray]"
        ) from None
    return ClusterExecutor
