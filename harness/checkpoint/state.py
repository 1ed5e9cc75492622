"""Save and restore networks, optimizers and schedules as one tree (note 100).

Everything is checked before anything in memory changes.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from harness.axes import parallel
from harness.axes.muon import Muon
from harness.checkpoint import compare
from harness.checkpoint.networks import fits, put, shape_of, unchanged_on_error
from harness.checkpoint.tree import CheckpointError, plain

if TYPE_CHECKING:
    from torch.distributed.optim import ZeroRedundancyOptimizer

SCALARS = ("step", "eta", "mu", "mu_product")  # optimizer state without its parameter's shape
SHAPED = (  # optimizers whose other state has its parameter's shape
    *(optim.SGD, optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam, optim.Adamax, optim.SparseAdam),
    *(Muon, optim.RMSprop, optim.Adagrad, optim.Adadelta, optim.ASGD, optim.Rprop),
)


def snapshot(
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    schedules: Mapping[str, LRScheduler],
    **rest: object,
) -> dict[str, Any]:
    """Copy the states of networks, optimizers and schedules, and ``rest``, to a tree on the CPU.

    Sharded tensors stay sharded, where they are. Under zero1 all ranks call it together, and only
    rank 0 gets the optimizers' states.
    """
    return {
        "networks": {name: plain(network.state_dict()) for name, network in networks.items()},
        "optimizers": {name: _state(optimizer) for name, optimizer in optimizers.items()},
        "schedules": {name: _state(schedule) for name, schedule in schedules.items()},
        **plain(rest),
    }


def validate(
    tree: Mapping[str, Any],
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    schedules: Mapping[str, LRScheduler],
) -> None:
    """Raise CheckpointError unless a snapshot fits these networks, optimizers and schedules.

    Nothing is changed. Compared are all names; tensors' shapes and dtypes; optimizers' and
    schedules' classes; groups and the parameters in each; every state tensor's shape and dtype
    with its parameter's, or with those that the optimizer itself gives it in a first step
    (Adafactor keeps a row and a column of a matrix). LBFGS, whose state belongs to no parameter, is
    refused.
    """
    parts = {"networks": networks, "optimizers": optimizers, "schedules": schedules}
    try:
        for part, own in parts.items():
            if set(saved := tree.get(part, {})) != set(own):
                raise CheckpointError(f"the checkpoint's {part} are {[*saved]}, not {[*own]}")
        for name, network in networks.items():
            if mismatch := compare(network, tree["networks"][name]):
                raise CheckpointError(f"network {name} differs from the checkpoint: {mismatch}")
        for name, optimizer in optimizers.items():
            _check_kind(f"optimizer {name}", tree["optimizers"][name]["kind"], optimizer)
            _check_optimizer(name, tree["optimizers"][name]["state"], optimizer)
        for name, schedule in schedules.items():
            _check_kind(f"schedule {name}", tree["schedules"][name]["kind"], schedule)
            _check_schedule(name, tree["schedules"][name]["state"], schedule)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint is not what snapshot makes: {error!r}") from error


def restore(
    tree: Mapping[str, Any],
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    schedules: Mapping[str, LRScheduler],
) -> None:
    """Load a snapshot into networks, optimizers and schedules, once ``validate`` accepts all of it.

    The tree shares no memory with them afterwards. Raises CheckpointError with nothing changed.
    """
    validate(tree, networks, optimizers, schedules)
    with unchanged_on_error(networks.values()):
        for name, network in networks.items():
            put(network, tree["networks"][name])
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(_laid_out(tree["optimizers"][name]["state"], optimizer))
        place_steps(_inner(optimizer))
    for name, schedule in schedules.items():
        schedule.load_state_dict(plain(tree["schedules"][name]["state"]))


def _check_kind(what: str, saved: object, own: object) -> None:
    if saved != _kind(own):
        raise CheckpointError(f"{what}: the checkpoint holds {saved}, here is {_kind(own)}")


def _check_optimizer(name: str, state: Mapping[str, Any], optimizer: Optimizer) -> None:
    saved = [len(group["params"]) for group in state["param_groups"]]
    own = [len(group["params"]) for group in optimizer.param_groups]
    if saved != own:
        raise CheckpointError(f"optimizer {name}: groups of {saved} parameters, here of {own}")
    parameters = _by_index(state, optimizer)
    for index, values in state["state"].items():
        parameter = parameters[index]
        made = _first_state(name, optimizer, parameter)
        for key, value in values.items():
            like = made.get(key, parameter)
            scalar = key not in made and key in SCALARS and getattr(value, "ndim", 0) == 0
            if isinstance(value, Tensor) and not scalar and not fits(value, like):
                raise CheckpointError(
                    f"optimizer {name}: {key} of parameter {index} is {shape_of(value)}, "
                    f"{'here' if key in made else 'its parameter'} {shape_of(like)}"
                )


def _first_state(name: str, optimizer: Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """Return the state tensors that an optimizer makes for a parameter, by a step on a copy of it.

    Empty for those that are ``SHAPED``: they need no trial. Raises CheckpointError if it makes no
    step on a single parameter.
    """
    (group,) = (g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    optimizer = _inner(optimizer)
    if type(optimizer) in SHAPED:
        return {}
    copy = nn.Parameter(parameter.detach().clone())
    copy.grad = torch.zeros_like(copy)
    twin = object.__new__(type(optimizer))
    vars(twin).update(vars(optimizer), state=defaultdict(dict))
    twin.param_groups = [{**group, "params": [copy]}]
    for key in vars(twin):
        if key.endswith("_hooks"):
            setattr(twin, key, OrderedDict())
    try:
        if hasattr(twin, "train"):  # schedule-free ones step in this mode only
            twin.train()
        type(twin).step(twin)
    except Exception as error:  # LBFGS wants a closure; others of anybody's make
        raise CheckpointError(
            f"optimizer {name}: what state {_kind(optimizer)} keeps cannot be told: {error}"
        ) from error
    return {key: value for key, value in twin.state[copy].items() if isinstance(value, Tensor)}


def place_steps(optimizer: Optimizer) -> None:
    """Move the counts of steps where torch wants them: beside a fused optimizer's parameters.

    A capturable one's too. zero1's loading puts them on the CPU, where a GPU's kernel fails.
    """
    for group in optimizer.param_groups:
        if group.get("fused") or group.get("capturable"):
            for parameter in group["params"]:
                kept = optimizer.state.get(parameter, {})
                if isinstance(step := kept.get("step"), Tensor):
                    kept["step"] = step.to(parameter.device)


def _laid_out(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Copy an optimizer's saved state, its tensors sharded as the optimizer's parameters are."""
    copy: dict[str, Any] = plain(state)
    parameters = _by_index(state, optimizer)
    for index, values in copy["state"].items():
        own = parameters[index]
        for key, value in values.items():
            if isinstance(value, Tensor) and value.shape == own.shape:
                values[key] = parallel.laid_out_like(value, own)
    return copy


def _by_index(state: Mapping[str, Any], optimizer: Optimizer) -> dict[int, Tensor]:
    """Map the indices by which a saved state names parameters to the optimizer's own."""
    indices = [index for group in state["param_groups"] for index in group["params"]]
    flat = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return dict(zip(indices, flat, strict=True))


def _check_schedule(name: str, state: Mapping[str, Any], schedule: LRScheduler) -> None:
    own = schedule.state_dict()
    if absent := [key for key in own if key not in state]:
        raise CheckpointError(f"schedule {name}: the checkpoint's state lacks {absent}")
    nested = getattr(schedule, "_schedulers", ())
    for part, inner in zip(state.get("_schedulers", ()), nested, strict=True):
        _check_schedule(name, part, inner)


def _state(thing: Optimizer | LRScheduler) -> dict[str, Any]:
    """Return an optimizer's or schedule's class name and state; under zero1 on rank 0 only."""
    if _is_zero1(thing):  # rank 0 gets all of it
        thing.consolidate_state_dict(0)
        if thing.rank != 0:
            return {"kind": _kind(thing), "state": {}}
    return {"kind": _kind(thing), "state": plain(thing.state_dict())}


def _kind(thing: object) -> str:
    """Return a class name, with those of the schedules inside; for zero1 the inner optimizer's."""
    thing = _inner(thing)
    nested = getattr(thing, "_schedulers", ())
    return type(thing).__name__ + (f"({', '.join(map(_kind, nested))})" if nested else "")


def _inner(thing: Any) -> Any:
    """Return the optimizer that zero1 wraps on this rank; anything else as it is."""
    return thing.optim if _is_zero1(thing) else thing


def _is_zero1(thing: Any) -> TypeGuard[ZeroRedundancyOptimizer]:
    """Whether an optimizer is one that ranks share."""
    module = "torch.distributed.optim.zero_redundancy_optimizer"
    return isinstance(thing, parallel.loaded(module, "ZeroRedundancyOptimizer"))
