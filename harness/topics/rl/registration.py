"""Make Gymnasium environments by id, wherever they were registered, and take them to workers."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

import cloudpickle
import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.wrappers import FlattenObservation

from harness import packing
from harness.cell import UsageError, unknown
from harness.topics.rl.observations import Observed, observed

TIME_LIMIT = 5_000  # steps, for environments that bring none
LARGEST = float(np.finfo(np.float32).max)
API = {  # Gymnasium's: how many values return, and how it reads; Gym's before 0.26 was another
    "reset": (2, "reset(seed=, options=) returns observation, info"),
    "step": (5, "step(action) returns observation, reward, terminated, truncated, info"),
}
READERS = ("gymnasium.core", "gymnasium.wrappers", "gymnasium.spaces")  # of what is returned


@dataclass(frozen=True)
class Traits:
    """What an agent must know of an environment.

    limit: steps after which an episode is cut off; own_limit: whether the environment set it.
    """

    observed: Observed
    actions: int
    limit: int
    own_limit: bool


class Guarded(gymnasium.Wrapper):
    """Wrapper of an environment that is not Gymnasium's: names it in each error, one line each.

    Rewards may be whole numbers or arrays of one; info is dropped, as no agent looks at it.
    """

    def __init__(self, env: gymnasium.Env, name: str) -> None:
        super().__init__(env)
        self.name = name

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        obs, _ = self._call("reset", lambda: self.env.reset(**settings))
        return self._seen(obs), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, _ = self._call("step", lambda: self.env.step(action))
        if np.size(reward) != 1:
            raise UsageError(
                f"environment {self.name!r} gives a reward of shape {np.shape(reward)}: "
                "one number is needed"
            )
        try:
            number = float(np.asarray(reward).reshape(()))
        except (TypeError, ValueError):
            raise UsageError(
                f"environment {self.name!r} gives a reward of type {type(reward).__name__}: "
                "one number is needed"
            ) from None
        if not abs(number) <= LARGEST:
            raise UsageError(f"environment {self.name!r} gives a reward of {number}")
        return self._seen(obs), number, bool(terminated), bool(truncated), {}

    def _call(self, what: str, work: Callable[[], Any]) -> Any:
        """Return the values that ``reset`` or ``step`` returns, as many as API has."""
        count, needed = API[what]
        try:
            found = work()
        except Exception as error:
            *_, (last, _) = traceback.walk_tb(error.__traceback__)
            reads = last.f_globals.get("__name__", "").startswith(READERS)
            hint = f"; Gymnasium's {needed}" if reads else ""
            raise UsageError(
                f"environment {self.name!r} fails in {what}: {_line(error)}{hint}"
            ) from error
        if not isinstance(found, tuple | list) or len(found) != count:
            raise UsageError(
                f"environment {self.name!r} does not return {count} values from {what}; "
                f"Gymnasium's {needed}"
            )
        return found

    def _seen(self, obs: Any) -> np.ndarray:
        """Return an observation as an array. Raises UsageError if its space has no such."""
        space, found = self.observation_space, np.asarray(obs)
        if found.shape != space.shape or not np.can_cast(
            found.dtype, space.dtype or float, "same_kind"
        ):
            raise UsageError(
                f"environment {self.name!r} shows {found.dtype} of shape {found.shape}, "
                f"but says that it shows {space.dtype} of shape {space.shape}"
            )
        return found


class Forgetful(gymnasium.Wrapper):
    """Wrapper that resets MinAtar's last action, lest the next episode begin by repeating it."""

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        self.unwrapped.game.last_action = 0  # type: ignore[attr-defined]
        return self.env.reset(**settings)


def find(env: str) -> EnvSpec:
    """Return how an environment is registered; of ``module:Env-v0`` the module is imported first.

    Raises UsageError if the module cannot be imported, or if nothing of that name is registered.
    """
    module, _, name = env.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"environment {env!r}: module {module!r} cannot be imported: {_line(error)}"
            ) from error
    elif name.startswith("MinAtar/") and name not in gymnasium.registry:
        try:
            from minatar.gym import register_envs  # it does not register by itself
        except ImportError as error:
            extra = "pip install torch-decathlon[minatar]"
            raise UsageError(f"environment {env!r} cannot be made: {error}; {extra}") from None
        register_envs()
    if name not in gymnasium.registry:
        other = "" if module else f"; another module's as MODULE:{name}"
        raise UsageError(f"{unknown('environment', name, gymnasium.registry)}{other}")
    return gymnasium.registry[name]


def make(env: str) -> gymnasium.Env:
    """Make an environment that shows arrays and has discrete actions, else raise UsageError."""
    made = _made(env)
    flat = _observed(env, made).flat
    space = _space(env, made, "action_space")
    if not isinstance(space, gymnasium.spaces.Discrete):
        actions = " ".join(str(space).split())
        raise UsageError(f"environment {env!r} has no discrete actions: {actions}, not a Discrete")
    made = FlattenObservation(made) if flat else made
    return Guarded(made, env) if own_classes_of(made) else made


def _made(env: str) -> gymnasium.Env:
    """Make an environment, with a time limit if it has none. Raises UsageError if it cannot be."""
    spec = find(env)
    limit = None if spec.max_episode_steps else TIME_LIMIT
    try:
        made = gymnasium.make(spec, disable_env_checker=True, max_episode_steps=limit)
    except Exception as error:
        raise UsageError(f"environment {env!r} cannot be made: {_line(error)}") from error
    return Forgetful(made) if env.startswith("MinAtar/") else made


def _observed(env: str, made: gymnasium.Env) -> Observed:
    space = _space(env, made, "observation_space")
    try:
        return observed(space)
    except UsageError as error:
        raise UsageError(f"environment {env!r} shows {error}") from None


def _space(env: str, made: gymnasium.Env, name: str) -> gymnasium.Space:
    """Return a space of an environment. Raises UsageError if it has none."""
    try:
        space: gymnasium.Space = getattr(made, name)
    except Exception as error:
        raise UsageError(
            f"environment {env!r} gives no {name}, which is one of gymnasium.spaces: {_line(error)}"
        ) from error
    return space


@cache
def traits(env: str) -> Traits:
    """Return what an agent must know of an environment. Raises UsageError as ``make`` does."""
    make(env).close()
    made, limit = _made(env), find(env).max_episode_steps
    actions = int(made.action_space.n)  # type: ignore[attr-defined]
    return Traits(_observed(env, made), actions, limit or TIME_LIMIT, bool(limit))


def own_classes_of(made: gymnasium.Env) -> list[type]:
    """Return an environment's classes, its wrappers' and their bases, but Gymnasium's and ours."""
    layers, layer = [made], made
    while isinstance(layer, gymnasium.Wrapper):
        layer = layer.env
        layers.append(layer)
    others = {"gymnasium", "harness", *sys.stdlib_module_names}
    kinds = dict.fromkeys(kind for one in layers for kind in type(one).__mro__)
    return [kind for kind in kinds if kind.__module__.split(".")[0] not in others]


def settings_hash(env: str) -> str:
    """Hash how an environment is registered: its entry point, arguments and time limit."""

    def plain(value: Any) -> str:
        return getattr(value, "__qualname__", type(value).__qualname__)

    spec = find(env)
    parts = [spec.entry_point, spec.kwargs, spec.max_episode_steps, spec.reward_threshold]
    return sha256(json.dumps(parts, sort_keys=True, default=plain).encode()).hexdigest()[:8]


def carried(env: str) -> bytes:
    """Pickle how an environment is registered here, for a process in which it is not.

    What a conftest defines is pickled with its code, as is what such a process could not import.
    Empty if nothing is registered. Raises UsageError if it cannot be pickled.
    """
    spec = gymnasium.registry.get(env.rpartition(":")[2])
    if spec is None:
        return b""
    entry: Any = spec.entry_point
    if isinstance(entry, str) and not _importable(entry.split(":")[0]):
        entry = load_env_creator(entry)
    kinds = [entry, *(entry.__mro__ if isinstance(entry, type) else ())]
    names = {getattr(kind, "__module__", "") for kind in kinds if not isinstance(kind, str)}
    names |= {name for name in list(sys.modules) if name.split(".")[-1] == "conftest"}
    before = cloudpickle.list_registry_pickle_by_value()
    apart = [
        sys.modules[name]
        for name in names - set(before)
        if name in sys.modules and name != "__main__" and not _importable(name)
    ]
    for module in apart:
        cloudpickle.register_pickle_by_value(module)
    try:
        return packing.dumps(dataclasses.replace(spec, entry_point=entry), f"environment {env!r}")
    finally:
        for module in apart:
            cloudpickle.unregister_pickle_by_value(module)


def receive(env: str, packed: bytes) -> None:
    """Register here what ``carried`` packed elsewhere.

    Modules are imported first, since they may register the same themselves.
    """
    if not packed:
        return
    spec = cloudpickle.loads(packed)
    entry = spec.entry_point if isinstance(spec.entry_point, str) else ""
    for module in (env.rpartition(":")[0], entry.split(":")[0]):
        with contextlib.suppress(Exception):  # make says why
            importlib.import_module(module)
    gymnasium.registry[spec.id] = spec


def _importable(name: str) -> bool:
    """Return whether a process with this one's sys.path imports the same module by its name."""
    path, found = None, None
    if name.split(".")[-1] == "conftest":  # each folder may have one
        return False
    for end in range(1, len(name.split(".")) + 1):
        part = ".".join(name.split(".")[:end])
        found = next(filter(None, (one.find_spec(part, path) for one in sys.meta_path)), None)
        if found is None:
            return False
        path = found.submodule_search_locations
    here = getattr(sys.modules.get(name), "__file__", None)
    return here is None or (found is not None and found.origin == here)


def _line(error: BaseException) -> str:
    """Return an exception as one line."""
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
