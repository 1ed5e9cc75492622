"""Deep reinforcement learning (note 97) on Gymnasium's environments with discrete actions.

DQN (Mnih et al. 2015), double (van Hasselt et al. 2016) and dueling (Wang et al. 2016) as flags of
one agent; REINFORCE with a baseline (Williams 1992); advantage actor-critic (Mnih et al. 2016).
Shapes: B batch, O... one observation, A actions, W outputs a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.axes import losses
from harness.axes.optimizers import OptimizerSpec
from harness.cell import Budget, Cell, UsageError
from harness.topics.options import EnvironmentOptions
from harness.topics.rl import registration
from harness.topics.rl.acting import Acting
from harness.topics.rl.environments import Environments, play
from harness.topics.rl.networks import Q, Torso
from harness.topics.rl.registration import TIME_LIMIT, traits
from harness.topics.rl.rewards import SUPPORT, support
from harness.topics.rl.rollouts import Episodes, Replay, Segments
from harness.training.batches import Batches
from harness.training.topic import Batch, Networks, Player, Topic

BUFFER_BYTES = 2**28
EVALUATION_SEED, VALIDATION_SEED = 1_000_000, 2_000_000  # added to a cell's seed
EPISODES = 50


@dataclass(frozen=True)
class DQN:
    """Options of a DQN agent: double (van Hasselt et al. 2016), dueling (Wang et al. 2016)."""

    double: bool = False
    dueling: bool = False


@dataclass(frozen=True)
class PolicyGradient:
    """Options of a policy-gradient agent: whether it learns from segments or whole episodes.

    segments: environments go on from batch to batch, and the critic bootstraps.
    """

    segments: bool


AGENTS = {
    "dqn": DQN(),
    "double_dqn": DQN(double=True),
    "dueling_dqn": DQN(dueling=True),
    "double_dueling_dqn": DQN(double=True, dueling=True),
    "policy_gradient": PolicyGradient(segments=False),
    "actor_critic": PolicyGradient(segments=True),
}


@dataclass(frozen=True)
class RL(EnvironmentOptions, Topic):
    """Topic that trains agents in a Gymnasium environment, with the network of CleanRL.

    Environments step together: DQN's train_frequency and actor_critic's batches are multiples of
    num_envs.
    """

    gamma: float = 0.99
    hidden_sizes: tuple[int, ...] = (120, 84)
    num_envs: int = 10
    buffer_size: int = 500_000  # transitions, within BUFFER_BYTES
    learning_starts: int = 1_000  # environment steps, all at random
    train_frequency: int = 10  # environment steps before each batch
    exploration_fraction: float = 0.16  # of the training, in which epsilon falls
    epsilon_end: float = 0.04
    target_updates: int = 240  # copies of the network over a whole training
    gae_lambda: float = 0.98
    entropy_coef: float = 0.01

    name: ClassVar[str] = "rl"
    models: ClassVar[tuple[str, ...]] = tuple(AGENTS)
    loss_falls: ClassVar[bool] = False
    recipe: ClassVar[tuple[str, str]] = ("mse", "cosine")
    directions: ClassVar[Mapping[str, str]] = {"return": "max", "steps_to_solve": "min"}
    budgets: ClassVar[Mapping[str, Budget]] = {
        "smoke": Budget(steps=60, batch_size=64, timeout_s=120, expected_s=2),
        "quick": Budget(steps=12_000, batch_size=64, timeout_s=300, expected_s=11, looks=10),
        "full": Budget(steps=50_000, batch_size=128, timeout_s=3600, expected_s=42, looks=20),
    }
    on_policy: ClassVar[Mapping[str, Mapping[str, Budget]]] = {
        "policy_gradient": {
            "smoke": Budget(steps=4, batch_size=4, timeout_s=120, expected_s=2),
            "quick": Budget(steps=100, batch_size=10, timeout_s=300, expected_s=8, looks=10),
            "full": Budget(steps=300, batch_size=10, timeout_s=3600, expected_s=50, looks=20),
        },
        "actor_critic": {
            "smoke": Budget(steps=40, batch_size=80, timeout_s=120, expected_s=2),
            "quick": Budget(steps=3_500, batch_size=80, timeout_s=300, expected_s=8, looks=10),
            "full": Budget(steps=10_000, batch_size=80, timeout_s=3600, expected_s=50, looks=20),
        },
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            sizes = "+".join(map(str, self.hidden_sizes)) or "()"
            raise UsageError(f"hidden_sizes {sizes}: one or more are needed, each 1 or more")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise UsageError(f"{name} {value}: it must be from 0 to 1")

    def dataset_id(self) -> str:
        """Return the environment's id and Gymnasium's version, and a hash of its settings.

        Those that ``SUPPORT`` knows are set by the version. Raises UsageError if it is unfit.
        """
        traits(self.env)
        registration.carried(self.env)
        settings = "" if self.env in SUPPORT else f"+{registration.settings_hash(self.env)}"
        return f"{self.env}@gymnasium-{version('gymnasium')}{settings}"

    @property
    def on_cpu(self) -> tuple[str, ...]:  # type: ignore[override]
        """All agents, unless they look at images."""
        return () if traits(self.env).observed.channels else self.models

    def data_notes(self) -> list[str]:
        known = traits(self.env)
        limit = f"no time limit of its own: episodes are cut off after {TIME_LIMIT:,} steps"
        found = [known.observed.note, "" if known.own_limit else limit]
        notes = [*found, support(self.env, self.gamma).note]
        return [f"{self.env}: {note}" for note in notes if note]

    def goal(self) -> float | None:
        """Return the mean return at which the environment counts as solved, if it names one."""
        return _threshold(self.env)

    def depends_on(self) -> list[type]:
        made = registration.make(self.env)
        made.close()
        return registration.own_classes_of(made)

    def skip(self, cell: Cell) -> str | None:
        if cell.model == "policy_gradient" and cell.precision == "compiled":
            return "each of its episodes has a length of its own, and would be compiled anew"
        if isinstance(AGENTS[cell.model], DQN) and self.train_frequency % self.num_envs:
            return (
                f"its {self.num_envs} environments step together, which a train_frequency of "
                f"{self.train_frequency} steps is no multiple of"
            )
        return None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"": registration.carried(self.env)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        registration.receive(state["env"], state.pop(""))
        self.__dict__.update(state)

    def budget(self, profile: str, model: str) -> Budget:
        return self.on_policy.get(model, self.budgets)[profile]

    def forms(self, model: str) -> tuple[str, ...]:
        return ("numeric",)

    def base_optimizer(self, model: str) -> OptimizerSpec:
        if isinstance(AGENTS[model], DQN):
            return OptimizerSpec("adam", lr=2e-3, adaptive_lr=5e-4)
        lr = 2e-3 if model == "actor_critic" else 3e-3
        return OptimizerSpec("adam", lr=lr, adaptive_lr=1e-3)

    def networks(self, cell: Cell) -> dict[str, nn.Module]:
        known = traits(self.env)
        observed, actions = known.observed, known.actions
        agent, width = AGENTS[cell.model], self._form(cell).width
        if isinstance(agent, DQN):
            q = Q(observed, self.hidden_sizes, actions, width, agent.dueling)
            target = Q(observed, self.hidden_sizes, actions, width, agent.dueling).requires_grad_(
                False
            )
            target.load_state_dict(q.state_dict())
            return {"q": q, "target": target}
        policy = nn.Sequential(
            Torso(observed, self.hidden_sizes), nn.Linear(self.hidden_sizes[-1], actions)
        )
        nn.init.orthogonal_(policy[-1].weight, gain=0.01)  # type: ignore[arg-type]
        value = nn.Sequential(
            Torso(observed, self.hidden_sizes), nn.Linear(self.hidden_sizes[-1], width)
        )
        return {"policy": policy, "value": value}

    def players(self, cell: Cell) -> list[Player]:
        form, agent = self._form(cell), AGENTS[cell.model]
        optimizer = self.base_optimizer(cell.model)

        def td(networks: Networks, batch: Batch) -> Tensor:
            """Return the loss of Q(s, a) on r + gamma Q'(s', a'), or on r if s' is terminal."""
            assert isinstance(agent, DQN)
            with torch.no_grad():
                next_BA = form.decode(networks["target"](batch["next_obs"]))
                judged_BA = next_BA
                if agent.double:
                    judged_BA = form.decode(networks["q"](batch["next_obs"]))
                next_B = next_BA.gather(1, judged_BA.argmax(1, keepdim=True))[:, 0]
                target_B = batch["reward"] + self.gamma * (1 - batch["terminated"]) * next_B
            outputs_BAW = networks["q"](batch["obs"])
            index_B1W = batch["action"][:, None, None].expand(-1, 1, outputs_BAW.shape[-1])
            return form.loss(outputs_BAW.gather(1, index_B1W)[:, 0], target_B).mean()

        def act(networks: Networks, batch: Batch) -> Tensor:
            """Return the policy-gradient loss, with a bonus for entropy."""
            log_A = networks["policy"](batch["obs"]).log_softmax(-1)
            taken = log_A.gather(-1, batch["action"][..., None])[..., 0]
            entropy = -(log_A.exp() * log_A).sum(-1)
            gain = batch["advantage"] * taken + self.entropy_coef * entropy
            return -(batch["weight"] * gain).mean()

        def criticise(networks: Networks, batch: Batch) -> Tensor:
            """Return the critic's loss on the value targets."""
            outputs = networks["value"](batch["obs"])
            return (batch["weight"] * form.loss(outputs, batch["target"])).mean()

        if isinstance(agent, DQN):
            return [Player("q", ("q",), td, optimizer)]
        return [
            Player("actor", ("policy",), act, optimizer),
            Player("critic", ("value",), criticise, optimizer),
        ]

    def batches(
        self,
        cell: Cell,
        budget: Budget,
        networks: Networks,
        generator: torch.Generator,
        device: torch.device,
    ) -> Batches:
        form, agent = self._form(cell), AGENTS[cell.model]
        acting = self._acting(cell, networks, device)
        if isinstance(agent, DQN):
            return Replay(
                Environments(self.env, self.num_envs, generator),
                acting,
                lambda actors, obs: form.decode(actors["q"](obs)),
                device,
                capacity=self.buffer_size,
                max_bytes=BUFFER_BYTES,
                learning_starts=min(self.learning_starts, 20 * budget.steps),
                train_frequency=self.train_frequency,
                epsilon_batches=int(self.exploration_fraction * budget.steps),
                epsilon_end=self.epsilon_end,
            )
        segments = agent == PolicyGradient(segments=True)
        if segments and budget.batch_size % self.num_envs:
            raise UsageError(
                f"batch size {budget.batch_size} of {cell.model}: it must be a multiple of "
                f"num_envs {self.num_envs}, as the environments step together"
            )
        count = self.num_envs if segments else budget.batch_size
        return (Segments if segments else Episodes)(
            Environments(self.env, count, generator),
            acting,
            lambda actors, obs: actors["policy"](obs),
            lambda actors, obs: form.decode(actors["value"](obs)),
            device,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
        )

    def _acting(self, cell: Cell, networks: Networks, device: torch.device) -> Acting:
        """Return how networks that learn on a device act."""
        if device.type == "cpu" or traits(self.env).observed.channels:
            return Acting(networks, device)
        with torch.random.fork_rng(devices=[]):  # the training's own numbers stay as they are
            copies = self.networks(cell)
        copies.pop("target", None)  # it judges, and does not act
        return Acting(networks, device, copies)

    def each_step(self, networks: Networks, cell: Cell, step: int, steps: int) -> None:
        if "target" in networks and step % max(1, steps // self.target_updates) == 0:
            networks["target"].load_state_dict(networks["q"].state_dict())

    @torch.no_grad()
    def evaluate(self, networks: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
        """Play EPISODES episodes greedily, with seeds of their own, and return the mean return."""
        return self._returns(self._greedy(networks, cell), EVALUATION_SEED + cell.seed)

    @torch.no_grad()
    def validate(self, networks: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
        return self._returns(self._greedy(networks, cell), VALIDATION_SEED + cell.seed)

    def _greedy(self, networks: Mapping[str, Any], cell: Cell) -> Callable[[Tensor], Tensor]:
        """Return which action a trained agent takes, by observation; it acts as in training."""
        form = self._form(cell)
        device = next(next(iter(networks.values())).parameters()).device
        acting = self._acting(cell, networks, device)
        actors = acting.now()

        def greedy(obs_NO: Tensor) -> Tensor:
            obs_NO = obs_NO.to(acting.device)
            if "policy" in actors:
                return actors["policy"](obs_NO).argmax(-1).cpu()
            return form.decode(actors["q"](obs_NO)).argmax(-1).cpu()

        return greedy

    def baseline(self, cell: Cell) -> dict[str, Any]:
        """Return the mean return of random actions."""
        generator = torch.Generator().manual_seed(cell.seed)
        actions = traits(self.env).actions
        return self._returns(
            lambda obs_NO: torch.randint(actions, (len(obs_NO),), generator=generator),
            EVALUATION_SEED + cell.seed,
        )

    def _returns(self, act: Callable[[Tensor], Tensor], seed: int) -> dict[str, Any]:
        """Play EPISODES episodes by ``act``; return the mean and deviation of their returns."""
        seeds = torch.Generator().manual_seed(seed)
        return_N = play(Environments(self.env, EPISODES, seeds), act)
        return {
            "return": return_N.mean().item(),
            "return_sd": return_N.std().item(),
            "return_se": return_N.std().item() / EPISODES**0.5,
            "episodes": EPISODES,
        }

    def _form(self, cell: Cell) -> losses.Form:
        """Return the cell's loss for values of the environment's range and unit."""
        low, high, unit, _ = support(self.env, self.gamma)
        return losses.numeric(cell.loss, low, high, bins=51, epsilon=0.1 * unit, delta=unit)


@cache
def _threshold(env: str) -> float | None:
    """Return an environment's reward threshold, once a process."""
    made = registration.make(env)
    made.close()
    return made.spec.reward_threshold if made.spec else None
