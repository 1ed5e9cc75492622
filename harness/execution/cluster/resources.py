"""The cluster: how to reach it, what a task needs of it, and whether it has that."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray

from harness.cell import UsageError
from harness.trial.task import Task

CONNECT_S = 5.0


def connect() -> bool:
    """Connect this process to Ray if it is not yet; returns whether it is ours to disconnect.

    Raises UsageError if RAY_ADDRESS leads nowhere.
    """
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.rpartition(":")
    if host and port.isdigit():  # Ray itself would try for minutes
        try:
            socket.create_connection((host, int(port)), CONNECT_S).close()
        except OSError as error:
            raise UsageError(f"no Ray cluster at RAY_ADDRESS {address}: {error}") from None
    init = partial(ray.init, log_to_driver=False, logging_level=logging.CRITICAL)
    try:
        init("auto")
    except ConnectionError as error:
        if address:
            raise UsageError(f"no Ray cluster at RAY_ADDRESS {address}: {error}") from None
        init("local", include_dashboard=False)
    return True


@dataclass(frozen=True)
class Request:
    """What a slot for each rank takes: one CPU, and one GPU where cells run on GPUs."""

    ranks: int
    gpus: int

    @classmethod
    def of(cls, task: Task) -> Request:
        """The request of a task."""
        return cls(task.world_size, int(task.device == "cuda"))

    @property
    def bundles(self) -> list[dict[str, float]]:
        """The resources of each rank, as Ray's placement groups take them."""
        return [{"CPU": 1.0} | ({"GPU": 1.0} if self.gpus else {})] * self.ranks


def shortage(task: Task, nodes: Iterable[Mapping[str, Any]]) -> str:
    """Why a task would wait for ever on these nodes, as ``ray.nodes()`` gives them; empty if not.

    The line says what it needs, what is there and what is missing.
    """
    request = Request.of(task)
    slots, there = 0, []
    for node in nodes:
        if not node["Alive"]:
            continue
        cpus, gpus = (int(node["Resources"].get(kind, 0)) for kind in ("CPU", "GPU"))
        slots += min(cpus, gpus) if request.gpus else cpus
        there.append(f"{node['NodeManagerAddress']} has {_amount(cpus, gpus)}")
    if slots >= request.ranks:
        return ""
    missing = request.ranks - slots
    return (
        f"{task.cell.id} needs {request.ranks} x {_amount(1, request.gpus)}; "
        f"of the cluster's {len(there)} nodes {', '.join(sorted(there)) or 'none is alive'}; "
        f"missing: {missing} x {_amount(1, request.gpus)}"
    )


def _amount(cpus: int, gpus: int) -> str:
    return f"{cpus} CPU and {gpus} GPU"
