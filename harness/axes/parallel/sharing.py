"""What a configuration shares a batch out to, and the layers whose results depend on it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from harness.axes.parallel.loaded import loaded

STATISTICS, DRAWS = "statistics", "random numbers"


def shares(name: str, world_size: int, accumulate: int) -> str:
    """Return what each gets a part of a batch: rank, GPU or part; empty if it stays whole.

    name: the configuration. accumulate: equal parts that each rank takes its share in.
    """
    among = ["GPU"] if name == "dp" else ["rank"] if world_size > 1 else []
    return " and ".join([*among, "part"] if accumulate > 1 else among)


def shared_apart(networks: Mapping[str, nn.Module], accumulate: int = 1) -> list[str]:
    """Name the layers that make of a batch's parts something else than of the whole batch.

    networks: as they train, by name. Each kind of layer once a network, with what every part has
    of its own: ``BatchNorm2d in model: statistics``. What draws without being such a layer, or
    looks from one sample at another, cannot be seen from the layers.
    """
    found: dict[str, None] = {}
    for key, network in networks.items():
        for layer in network.modules():
            if own := _of_its_own(layer, accumulate):
                found[f"{kind(layer)} in {key}: {own}"] = None
    return list(found)


def kind(layer: nn.Module) -> str:
    """Return the name of a layer's class, without what FSDP makes of it."""
    fsdp = loaded("torch.distributed.fsdp", "FSDPModule")
    return next(c for c in type(layer).__mro__ if not issubclass(c, fsdp)).__name__


def _of_its_own(layer: nn.Module, accumulate: int) -> str:
    """Return what a layer computes or draws for each part of a batch anew; empty if nothing."""
    if isinstance(layer, nn.SyncBatchNorm):
        return STATISTICS if accumulate > 1 and layer.training else ""
    if isinstance(layer, _BatchNorm):
        return STATISTICS if layer.training or not layer.track_running_stats else ""
    if not layer.training:
        return ""
    if isinstance(layer, _InstanceNorm):  # normalises each sample, but averages for evaluation
        return STATISTICS if layer.track_running_stats else ""
    if isinstance(layer, _DropoutNd):
        return DRAWS if layer.p > 0 else ""
    if isinstance(layer, nn.RReLU):
        return DRAWS if layer.lower < layer.upper else ""
    if isinstance(layer, nn.RNNBase):  # drops between its layers
        return DRAWS if layer.dropout > 0 and layer.num_layers > 1 else ""
    if isinstance(layer, nn.MultiheadAttention):
        return DRAWS if layer.dropout > 0 else ""
    return ""
