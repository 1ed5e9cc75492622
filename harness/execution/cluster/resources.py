"""Connect to a Ray cluster, and check whether it has the CPUs and GPUs that a task needs."""

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
    """Connect to Ray unless connected, and return whether this call did and so must disconnect.

    The cluster is the one at RAY_ADDRESS, else a running one on this machine, else a new one here.
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
    """The resources of a task: for each rank one CPU, and one GPU if its cells run on GPUs."""

    ranks: int
    gpus: int

    @classmethod
    def of(cls, task: Task) -> Request:
        """Return the resources that a task needs."""
        return cls(task.world_size, int(task.device == "cuda"))

    @property
    def bundles(self) -> list[dict[str, float]]:
        """Return the resources of each rank, as the bundles of a Ray placement group."""
        return [{"CPU": 1.0} | ({"GPU": 1.0} if self.gpus else {})] * self.ranks


def shortage(task: Task, nodes: Iterable[Mapping[str, Any]]) -> str:
    """Return why a task can never run on these nodes; empty if it can.

    nodes: as ``ray.nodes()`` gives them. The line says what it needs, what is there and what is
    missing.
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
