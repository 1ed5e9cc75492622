"""Batches from agents' experience: from a replay, in segments, in whole episodes (note 97).

Shapes: B batch, N environments, T time, O... one observation, A actions. Each is a ``Batches``:
every rank plays the same environments with the same seeds, so that each can take its shard of a
global batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness.topics.rl.acting import Acting
from harness.topics.rl.environments import Environments, Step
from harness.training.batches import Batches
from harness.training.topic import Networks
from harness.training.transfers import onto, together

Values = Callable[[Networks, Tensor], Tensor]  # of observations, where the networks act


class Replay(Batches):
    """Batches from experience replay (Mnih et al. 2015) under an epsilon-greedy policy.

    Before each batch ``train_frequency`` environment steps are taken, before the first one
    ``learning_starts`` random ones. epsilon falls linearly from 1 to ``epsilon_end`` over the first
    ``epsilon_batches`` batches. It keeps the last ``capacity`` transitions, fewer if they take more
    than ``max_bytes``.
    """

    def __init__(
        self,
        envs: Environments,
        acting: Acting,
        q_values: Values,
        device: torch.device,
        *,
        capacity: int,
        max_bytes: int,
        learning_starts: int,
        train_frequency: int,
        epsilon_batches: int,
        epsilon_end: float,
    ) -> None:
        self.envs, self.acting, self.q_values, self.device = envs, acting, q_values, device
        self.learning_starts = learning_starts
        self.epsilon_batches, self.epsilon_end = epsilon_batches, epsilon_end
        self.rounds = max(1, train_frequency // envs.count)
        transition = {
            "obs": envs.obs[0],
            "next_obs": envs.obs[0],
            "action": torch.tensor(0),
            "reward": torch.tensor(0.0),
            "terminated": torch.tensor(0.0),
        }
        capacity = min(capacity, max_bytes // sum(part.nbytes for part in transition.values()))
        self.capacity = max(1, capacity // envs.count) * envs.count
        self.drawn = 0
        self.position = self.filled = 0
        self.stored = {
            name: part.new_empty(self.capacity, *part.shape) for name, part in transition.items()
        }

    @property
    def epsilon(self) -> float:
        """Return the probability of a random action at this point of the training."""
        return max(
            self.epsilon_end, 1 - (1 - self.epsilon_end) * self.drawn / max(1, self.epsilon_batches)
        )

    def draw(self, size: int) -> dict[str, Tensor]:
        """Return obs_BO, next_obs_BO, action_B, reward_B, terminated_B (1 if nothing follows)."""
        networks = self.acting.now()
        while self.filled < min(self.learning_starts, self.capacity):
            self._act(networks, 1.0)
        for _ in range(self.rounds):
            self._act(networks, self.epsilon)
        self.drawn += 1
        index_B = torch.randint(self.filled, (size,), generator=self.envs.generator)
        drawn = {name: kept.index_select(0, index_B) for name, kept in self.stored.items()}
        return together(drawn, self.device)

    @torch.no_grad()
    def _act(self, networks: Networks, epsilon: float) -> None:
        """Take one epsilon-greedy step in every environment, and store it."""
        obs_NO = self.envs.obs
        chance_N = torch.rand(len(obs_NO), generator=self.envs.generator)
        values_NA = self.q_values(networks, onto(obs_NO, self.acting.device)).cpu()
        random_N = torch.randint(values_NA.shape[1], (len(obs_NO),), generator=self.envs.generator)
        action_N = torch.where(chance_N < epsilon, random_N, values_NA.argmax(1))
        self.keep(obs_NO, action_N, self.envs.step(action_N))

    def keep(self, obs_NO: Tensor, action_N: Tensor, step: Step) -> None:
        """Store one transition of each environment over the oldest ones."""
        slots = slice(self.position, self.position + len(obs_NO))
        self.stored["obs"][slots] = obs_NO
        self.stored["next_obs"][slots] = step.next_obs
        self.stored["action"][slots] = action_N
        self.stored["reward"][slots] = step.reward
        self.stored["terminated"][slots] = step.terminated.float()
        self.filled = max(self.filled, slots.stop)
        self.position = slots.stop % self.capacity

    def state_dict(self) -> dict[str, Any]:
        return {
            "envs": self.envs.state_dict(),
            "stored": {name: kept[: self.filled].clone() for name, kept in self.stored.items()},
            "position": self.position,
            "drawn": self.drawn,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.envs.load_state_dict(state["envs"])
        self.position, self.drawn = state["position"], state["drawn"]
        for name, kept in state["stored"].items():
            self.filled = len(kept)
            self.stored[name][: self.filled] = kept

    def measures(self) -> dict[str, float]:
        return {"training_return": self.envs.training_return}

    def summary(self) -> dict[str, float]:
        return self.envs.summary()


class Segments(Batches):
    """On-policy batches of the next steps of every environment, with their advantages (A2C).

    A batch is whole steps of all environments: its size is a multiple of their number.
    """

    def __init__(
        self,
        envs: Environments,
        acting: Acting,
        logits: Values,
        values: Values,
        device: torch.device,
        *,
        gamma: float,
        gae_lambda: float,
    ) -> None:
        self.envs, self.acting, self.device = envs, acting, device
        self.logits, self.values = logits, values
        self.gamma, self.gae_lambda = gamma, gae_lambda

    @torch.no_grad()
    def draw(self, size: int) -> dict[str, Tensor]:
        """Return obs_BO, action_B, advantage_B, target_B (of the critic), weight_B of 1."""
        networks = self.acting.now()
        steps: list[Step] = []
        seen, acted = [], []
        for _ in range(size // self.envs.count):
            seen.append(onto(self.envs.obs, self.acting.device))
            acted.append(sample(self.logits(networks, seen[-1]).cpu(), self.envs.generator))
            steps.append(self.envs.step(acted[-1]))
        obs_TNO = torch.stack(seen)
        advantage_TN, target_TN = self._advantages(networks, obs_TNO, steps, self.gae_lambda)
        batch = {
            "obs": obs_TNO,
            "action": torch.stack(acted),
            "advantage": advantage_TN,
            "target": target_TN,
            "weight": torch.ones_like(target_TN),
        }
        return together({name: part.flatten(0, 1) for name, part in batch.items()}, self.device)

    def _advantages(
        self, networks: Networks, obs_TNO: Tensor, steps: list[Step], gae_lambda: float
    ) -> tuple[Tensor, Tensor]:
        """Return the advantages of played steps and the values' targets, (T, N), on the CPU."""
        next_TNO = onto(torch.stack([step.next_obs for step in steps]), self.acting.device)
        both = [self.values(networks, obs_TNO), self.values(networks, next_TNO)]
        value_TN, next_value_TN = torch.stack(both).cpu()
        return advantages(
            torch.stack([step.reward for step in steps]),
            value_TN,
            next_value_TN,
            torch.stack([step.terminated for step in steps]),
            torch.stack([step.truncated for step in steps]),
            self.gamma,
            gae_lambda,
        )

    def state_dict(self) -> dict[str, Any]:
        return {"envs": self.envs.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.envs.load_state_dict(state["envs"])

    def measures(self) -> dict[str, float]:
        return {"training_return": self.envs.training_return}

    def summary(self) -> dict[str, float]:
        return self.envs.summary()


class Episodes(Segments):
    """On-policy batches of one whole episode of each environment (REINFORCE, Williams 1992).

    Episodes end at different steps: shorter ones are padded with weight 0, and the weights make a
    mean over the padded batch the mean over the steps that were played. Padding is played too, but
    counts neither as steps nor as episodes.
    """

    @torch.no_grad()
    def draw(self, size: int) -> dict[str, Tensor]:
        """Return obs_NTO, action_NT, advantage_NT, target_NT, weight_NT; size is N."""
        networks = self.acting.now()
        self.envs.reset()
        going_N = torch.ones(size, dtype=torch.bool)
        seen, acted, steps, played = [], [], [], []
        while going_N.any():
            seen.append(onto(self.envs.obs, self.acting.device))
            acted.append(sample(self.logits(networks, seen[-1]).cpu(), self.envs.generator))
            steps.append(self.envs.step(acted[-1], going_N))
            played.append(going_N)
            going_N = going_N & ~(steps[-1].terminated | steps[-1].truncated)
        obs_TNO, played_TN = torch.stack(seen), torch.stack(played)
        advantage_TN, target_TN = self._advantages(networks, obs_TNO, steps, gae_lambda=1.0)
        kept_TN = advantage_TN[played_TN]
        advantage_TN = (advantage_TN - kept_TN.mean()) / (
            kept_TN.std(correction=min(1, len(kept_TN) - 1)) + 1e-8
        )
        batch = {
            "obs": obs_TNO,
            "action": torch.stack(acted),
            "advantage": advantage_TN,
            "target": target_TN,
            "weight": played_TN * (played_TN.numel() / played_TN.sum()),
        }
        return together({name: part.transpose(0, 1) for name, part in batch.items()}, self.device)


def advantages(
    reward_TN: Tensor,
    value_TN: Tensor,
    next_value_TN: Tensor,
    terminated_TN: Tensor,
    truncated_TN: Tensor,
    gamma: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """Compute generalised advantages and the values' targets, (T, N) (Schulman et al. 2016).

    After a terminated step nothing follows; after a truncated one the value of its true next
    observation does; neither lets an advantage cross into the next episode.
    """
    delta_TN = reward_TN + gamma * next_value_TN * (~terminated_TN) - value_TN
    goes_on_TN = ~(terminated_TN | truncated_TN)
    advantage_TN = torch.zeros_like(delta_TN)
    following_N = torch.zeros_like(delta_TN[0])
    for t in reversed(range(len(delta_TN))):
        following_N = delta_TN[t] + gamma * gae_lambda * following_N * goes_on_TN[t]
        advantage_TN[t] = following_N
    return advantage_TN, advantage_TN + value_TN


def sample(logits_NA: Tensor, generator: torch.Generator) -> Tensor:
    """Draw actions_N from softmax(logits), by the Gumbel trick."""
    uniform_NA = torch.rand(logits_NA.shape, generator=generator)
    return (logits_NA - (-uniform_NA.clamp_min(1e-20).log()).log()).argmax(-1)
