"""Gymnasium's vector environments, with seeds and states that can be saved and brought back.

Shapes: N environments, O... one observation. Autoreset is off: a finished environment is reset here
right after its last step, so what ``step`` returns is always the true next observation, and no
transition crosses the border of an episode.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from harness.cell import UsageError
from harness.topics.rl.registration import make, traits

WINDOW = 100  # episodes a training return is the mean of, as Gymnasium's reward thresholds are


class Step(NamedTuple):
    """The result of one step of all environments.

    reward_N float32; next_obs_NO the observation after the action, also where it was the last.
    terminated_N: the episode ended by itself, so nothing follows; truncated_N: it was cut off, so
    its last observation has a value still.
    """

    next_obs: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor


class Environments:
    """Copies of an environment stepped together, whose state can be saved and restored.

    count: how many. generator: where all their seeds come from. obs_NO: the current observations.
    finished: the last WINDOW returns. env_steps: steps of all together. Both leave out what
    ``step`` is told not to count. solved_at: env_steps when the mean of WINDOW returns first
    reached the environment's threshold.
    """

    def __init__(self, env: str, count: int, generator: torch.Generator) -> None:
        self.env, self.count, self.generator = env, count, generator
        self.dtype = traits(env).observed.dtype
        self.vector = SyncVectorEnv(
            [lambda: make(env)] * count, autoreset_mode=AutoresetMode.DISABLED
        )
        spec = self.vector.envs[0].spec
        self.threshold = spec.reward_threshold if spec else None
        self.first_action = int(getattr(self.vector.single_action_space, "start", 0))
        self.finished: deque[float] = deque(maxlen=WINDOW)
        self.training_return = float("nan")
        self.env_steps = 0
        self.solved_at: int | None = None
        self.reset()

    def reset(self) -> None:
        """Begin a new episode in every environment, dropping those under way."""
        self.seeds = self._new_seeds(self.count)
        self.actions: list[list[int]] = [[] for _ in range(self.count)]
        self.returns = np.zeros(self.count)
        self.obs = self._tensor(self.vector.reset(seed=self.seeds)[0])

    def step(self, action_N: Tensor, going_N: Tensor | None = None) -> Step:
        """Step by actions (int64, from 0), and begin a new episode where one ended.

        going_N: the environments whose steps and episodes count, a boolean each; None: all.
        """
        taken = action_N.numpy() + self.first_action
        obs, reward, terminated, truncated, _ = self.vector.step(taken)
        for history, action in zip(self.actions, taken.tolist(), strict=True):
            history.append(action)
        counted_N = np.ones(self.count, bool) if going_N is None else going_N.numpy()
        self.env_steps += int(counted_N.sum())
        self.returns += reward
        self.obs = next_obs = self._tensor(obs)
        done = terminated | truncated
        if done.any():
            self._begin_again(done, counted_N)
        return Step(
            next_obs,
            torch.from_numpy(reward).float(),
            torch.from_numpy(terminated),
            torch.from_numpy(truncated),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return each episode's seed and its actions so far, from which it can be played again."""
        return {
            "seeds": list(self.seeds),
            "actions": [torch.tensor(history, dtype=torch.int64) for history in self.actions],
            "obs": self.obs.clone(),
            "returns": self.returns.tolist(),
            "finished": list(self.finished),
            "env_steps": self.env_steps,
            "solved_at": self.solved_at,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state by playing every episode again up to its step.

        Raises UsageError if the environment then shows something else: it is not deterministic.
        """
        self.seeds = [*state["seeds"]]
        self.actions = [history.tolist() for history in state["actions"]]
        shown = list(self.vector.reset(seed=self.seeds)[0])
        returns = np.zeros(self.count)
        for index, (env, history) in enumerate(zip(self.vector.envs, self.actions, strict=True)):
            for action in history:
                shown[index], reward, *_ = env.step(action)
                returns[index] += reward
        self.obs = self._tensor(np.stack(shown))
        if not torch.equal(self.obs, state["obs"]) or returns.tolist() != state["returns"]:
            raise UsageError(f"environment {self.env!r} does not repeat itself from its seed")
        self.returns = np.array(state["returns"])
        self.finished = deque(state["finished"], maxlen=WINDOW)
        self.training_return = float(np.mean(self.finished)) if self.finished else float("nan")
        self.env_steps, self.solved_at = state["env_steps"], state["solved_at"]

    def summary(self) -> dict[str, float]:
        """Return env_steps, and steps_to_solve if the environment was solved."""
        found = {"env_steps": float(self.env_steps)}
        return found if self.solved_at is None else found | {"steps_to_solve": self.solved_at}

    def _tensor(self, obs_NO: np.ndarray) -> Tensor:
        """Return observations as they are kept: bytes as bytes, all else in float32."""
        return torch.from_numpy(np.asarray(obs_NO)).to(self.dtype)

    def _new_seeds(self, count: int) -> list[int | None]:
        return torch.randint(2**31 - 1, (count,), generator=self.generator).tolist()

    def _begin_again(self, done_N: np.ndarray, counted_N: np.ndarray) -> None:
        """Keep the returns of episodes that are done and count; reset all that are done."""
        for index, seed in zip(done_N.nonzero()[0], self._new_seeds(done_N.sum()), strict=True):
            if counted_N[index]:
                self.finished.append(float(self.returns[index]))
            self.seeds[index], self.actions[index], self.returns[index] = seed, [], 0.0
        obs, _ = self.vector.reset(seed=self.seeds, options={"reset_mask": done_N})
        self.obs = self._tensor(obs)
        if self.finished:
            self.training_return = float(np.mean(self.finished))
        if (
            self.solved_at is None
            and self.threshold is not None
            and len(self.finished) == WINDOW
            and self.training_return >= self.threshold
        ):
            self.solved_at = self.env_steps


def play(envs: Environments, act: Callable[[Tensor], Tensor]) -> Tensor:
    """Play one whole episode in each environment, and return the returns, float64 (N,)."""
    envs.reset()
    total_N = torch.zeros(envs.count, dtype=torch.float64)
    going_N = torch.ones(envs.count, dtype=torch.bool)
    while going_N.any():
        step = envs.step(act(envs.obs))
        total_N += step.reward * going_N
        going_N &= ~(step.terminated | step.truncated)
    return total_N


def random_rewards(env: str, seed: int = 0, steps: int = 1_000) -> tuple[list[float], list[float]]:
    """Return the rewards that a random policy meets in ``steps`` steps.

    First those after which an episode went on or was cut off, then those with which one ended.
    """
    generator = torch.Generator().manual_seed(seed)
    envs = Environments(env, 1, generator)
    met: tuple[list[float], list[float]] = ([], [])
    for _ in range(steps):
        step = envs.step(torch.randint(traits(env).actions, (1,), generator=generator))
        met[int(step.terminated)].append(step.reward.item())
    return met
