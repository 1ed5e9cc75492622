"""Time the dqn training loop at CleanRL's hyper-parameters against other implementations.

All run in turn on one thread: learning every 10 environment steps from 128 transitions, a 120-84
network, Adam at 2.5e-4, a target copied every 500 steps, a replay of 10,000. ``nox -s speed`` runs
this on an idle machine. The others step one environment, as their users do; stable-baselines3 also
ten at a time, as we do.
"""

import time
from statistics import median

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.cell import Budget, Cell
from harness.topics.rl.agents import RL
from harness.training.loop import Training

ENV = "CartPole-v1"
STEPS = 20_000
START = 1_000
ROUNDS = 3


class CleanRLSettings(RL):
    def base_optimizer(self, model):
        return super().base_optimizer(model).__class__("adam", lr=2.5e-4)


def ours():
    """Return the harness's environment steps per second, and each part's share of the time."""
    budget = Budget(steps=(STEPS - START) // 10, batch_size=128)
    copies = budget.steps // 50
    topic = CleanRLSettings(
        learning_starts=START, buffer_size=10_000, exploration_fraction=0.5, target_updates=copies
    )
    training = Training(topic, Cell("rl", "dqn", "mse", "constant"), budget)
    spent = {"environments": 0.0, "drawing": 0.0}
    step, draw = training.batches.envs.step, training.batches.draw

    def timed(name, work):
        def call(*arguments):
            begun = time.perf_counter()
            found = work(*arguments)
            spent[name] += time.perf_counter() - begun
            return found

        return call

    training.batches.envs.step = timed("environments", step)
    training.batches.draw = timed("drawing", draw)
    begun = time.perf_counter()
    training.run(budget.steps)
    total = time.perf_counter() - begun
    shares = {
        "environments": spent["environments"] / total,
        "acting and replay": (spent["drawing"] - spent["environments"]) / total,
        "learning": (total - spent["drawing"]) / total,
    }
    return training.batches.envs.env_steps / total, shares


def stable_baselines3(environments):
    """Return stable-baselines3's environment steps per second, in so many environments."""
    sb3 = pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
    from stable_baselines3.common.env_util import make_vec_env

    agent = sb3.DQN(
        "MlpPolicy",
        make_vec_env(ENV, environments, seed=0),
        learning_rate=2.5e-4,
        buffer_size=10_000,
        learning_starts=START,
        batch_size=128,
        train_freq=10 // environments,
        gradient_steps=1,
        target_update_interval=500,
        exploration_fraction=0.5,
        policy_kwargs={"net_arch": [120, 84], "activation_fn": nn.ReLU},
        seed=0,
        device="cpu",
    )
    begun = time.perf_counter()
    agent.learn(STEPS)
    return STEPS / (time.perf_counter() - begun)


def plain_loop():
    """Return the environment steps per second of a plain loop, written as CleanRL's dqn.py is.

    One file, one environment, NumPy in the replay.
    """
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    envs = gymnasium.vector.SyncVectorEnv(
        [lambda: gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make(ENV))]
    )

    def network():
        layers = [nn.Linear(4, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 2)]
        return nn.Sequential(*layers)

    q, target = network(), network()
    target.load_state_dict(q.state_dict())
    optimizer = torch.optim.Adam(q.parameters(), lr=2.5e-4)
    seen, following = np.zeros((2, 10_000, 4), dtype="float32")
    action, reward, ended = np.zeros(10_000, "int64"), *np.zeros((2, 10_000), "float32")
    begun = time.perf_counter()
    obs, _ = envs.reset(seed=0)
    for step in range(STEPS):
        epsilon = max(0.05, 1 - 0.95 * step / (STEPS / 2))
        if draw.random() < epsilon:
            acts = np.array([draw.integers(2)])
        else:
            acts = q(torch.as_tensor(obs)).argmax(1).numpy()
        next_obs, rewards, terminated, _, _ = envs.step(acts)
        slot = step % 10_000
        seen[slot], following[slot], action[slot] = obs[0], next_obs[0], acts[0]
        reward[slot], ended[slot] = rewards[0], terminated[0]
        obs = next_obs
        if step > START and step % 10 == 0:
            index = draw.integers(min(step, 10_000), size=128)
            with torch.no_grad():
                best = target(torch.as_tensor(following[index])).amax(1)
                goal = torch.as_tensor(reward[index])
                goal = goal + 0.99 * best * (1 - torch.as_tensor(ended[index]))
            chosen = q(torch.as_tensor(seen[index])).gather(
                1, torch.as_tensor(action[index])[:, None]
            )
            loss = F.mse_loss(goal, chosen[:, 0])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step % 500 == 0:
            target.load_state_dict(q.state_dict())
    return STEPS / (time.perf_counter() - begun)


def test_dqn_is_faster_than_other_loops(capsys):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    rounds = []
    try:
        for _ in range(ROUNDS):
            own, shares = ours()
            rounds.append((own, stable_baselines3(1), stable_baselines3(10), plain_loop()))
    finally:
        torch.set_num_threads(before)
    own, one, ten, plain = (median(column) for column in zip(*rounds, strict=True))
    with capsys.disabled():
        print(f"\ndqn {own:,.0f} environment steps/s: ", end="")
        print(", ".join(f"{name} {share:.0%}" for name, share in shares.items()))
        for name, other in (
            ("stable-baselines3", one),
            ("stable-baselines3, ten environments", ten),
            ("a plain loop", plain),
        ):
            print(f"{name}: {other:,.0f} steps/s, ratio {own / other:.2f}")
    assert own > max(one, ten, plain)
