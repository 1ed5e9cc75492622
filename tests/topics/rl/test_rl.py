"""Environments, rollouts and the agents of the topic rl, with the laws that they keep."""

from dataclasses import replace
from importlib.util import find_spec

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.axes import losses
from harness.cell import Budget, Cell, UsageError
from harness.checkpoint.tree import digest
from harness.topics.rl.acting import CPU, Acting
from harness.topics.rl.agents import AGENTS, RL
from harness.topics.rl.environments import Environments, play
from harness.topics.rl.registration import make
from harness.topics.rl.rewards import support
from harness.topics.rl.rollouts import Episodes, Replay, Segments, advantages, sample
from harness.training.loop import Training


class Corridor(gymnasium.Env):
    """Shows (episode, position). Action 1 ends it at position 3; the time limit cuts it at 5."""

    observation_space = gymnasium.spaces.Box(-1e9, 1e9, (2,))
    action_space = gymnasium.spaces.Discrete(2)
    episode = 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        Corridor.episode += 1
        self.name, self.position = Corridor.episode, 0.0
        return np.array([self.name, 0.0], dtype="float32"), {}

    def step(self, action):
        self.position += 1
        ended = bool(action) and self.position >= 3
        return np.array([self.name, self.position], dtype="float32"), 1.0, ended, False, {}


gymnasium.register("Corridor-v0", Corridor, max_episode_steps=5)
gymnasium.register("Whimsical-v0", lambda: Whimsical(), max_episode_steps=5)


class Whimsical(Corridor):
    """Not decided by its seed."""

    def step(self, action):
        obs, *rest = super().step(action)
        return obs + np.float32(np.random.default_rng().random()), *rest


def environments(env="CartPole-v1", count=3, seed=0):
    return Environments(env, count, torch.Generator().manual_seed(seed))


def replay(envs, **changed):
    settings = {"capacity": 300, "max_bytes": 2**20, "learning_starts": 60, "train_frequency": 3}
    chosen = settings | {"epsilon_batches": 10, "epsilon_end": 0.1} | changed
    return Replay(envs, Acting({}, CPU), lambda _, obs: torch.zeros(len(obs), 2), CPU, **chosen)


def segments(envs, kind=Segments, value=lambda obs: torch.zeros(obs.shape[:-1])):
    def logits(_, obs):
        return torch.zeros(len(obs), 2)

    def values(_, obs):
        return value(obs)

    return kind(envs, Acting({}, CPU), logits, values, CPU, gamma=0.9, gae_lambda=0.95)


def test_autoreset_is_off_so_that_observations_are_the_true_ones():
    assert environments().vector.metadata["autoreset_mode"] == AutoresetMode.DISABLED


def test_no_transition_crosses_an_episode():
    stream = replay(environments("Corridor-v0"))
    stream.draw(8)
    kept = {name: value[: stream.filled] for name, value in stream.stored.items()}
    assert torch.equal(kept["obs"][:, 0], kept["next_obs"][:, 0])
    assert torch.equal(kept["obs"][:, 1] + 1, kept["next_obs"][:, 1])
    assert kept["terminated"].any()
    assert (kept["next_obs"][:, 1][kept["terminated"] == 0] == 5).any(), "no episode was cut off"


def test_the_replay_keeps_within_its_memory_and_forgets_the_oldest_first():
    stream = replay(environments(count=3), max_bytes=48 * 10)
    assert stream.capacity == 9, "of a transition's 48 bytes ten fit, in whole steps of three"
    steps = [stream.envs.obs]
    for _ in range(4):
        stream._act({}, 1.0)
        steps.append(stream.envs.obs)
    assert torch.equal(stream.stored["obs"], torch.cat([steps[3], steps[1], steps[2]]))


def test_a_truncated_step_bootstraps_and_a_terminated_one_does_not():
    topic, cell = RL(), Cell("rl", "dqn", "mse", "constant")
    networks = topic.networks(cell)
    with torch.no_grad():
        networks["target"].advantage.bias.fill_(50.0)
    td = topic.players(cell)[0].objective
    batch = {
        "obs": torch.zeros(1, 4),
        "next_obs": torch.zeros(1, 4),
        "action": torch.zeros(1, dtype=torch.int64),
        "reward": torch.ones(1),
    }
    form = losses.numeric("mse", 0, 100)
    q = form.decode(networks["q"](batch["obs"]))[0, 0]
    next_value = form.decode(networks["target"](batch["obs"])).max()
    ended = td(networks, batch | {"terminated": torch.ones(1)})
    cut_off = td(networks, batch | {"terminated": torch.zeros(1)})
    torch.testing.assert_close(ended, (q - 1).square())
    torch.testing.assert_close(cut_off, (q - 1 - 0.99 * next_value).square())


def test_double_takes_the_online_networks_action():
    cell = Cell("rl", "double_dqn", "mse", "constant")
    topic = RL()
    networks = topic.networks(cell)
    with torch.no_grad():
        for name, bias in (("q", [0.0, 1e3]), ("target", [70.0, 30.0])):
            networks[name].advantage.weight.zero_()
            networks[name].advantage.bias.copy_(torch.tensor(bias))
    batch = {
        "obs": torch.zeros(1, 4),
        "next_obs": torch.zeros(1, 4),
        "action": torch.zeros(1, dtype=torch.int64),
        "reward": torch.zeros(1),
        "terminated": torch.zeros(1),
    }
    loss = topic.players(cell)[0].objective(networks, batch)
    torch.testing.assert_close(loss, torch.tensor((0.99 * 30.0) ** 2))


def test_dueling_advantages_have_mean_zero():
    network = RL().networks(Cell("rl", "dueling_dqn", "ce", "constant"))["q"]
    obs_BO = torch.randn(5, 4)
    value_BW = network.value(network.torso(obs_BO))
    torch.testing.assert_close(network(obs_BO).mean(1), value_BW)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1))
def test_advantages_equal_their_definition(seed, gamma, trace):
    draw = torch.Generator().manual_seed(seed)
    reward, value, following = torch.randn(3, 7, 1, generator=draw, dtype=torch.float64)
    ended, cut = torch.rand(2, 7, 1, generator=draw) < 0.25
    found, target = advantages(reward, value, following, ended, cut, gamma, trace)
    for t in range(7):
        expected, factor = 0.0, 1.0
        for k in range(t, 7):
            rest = 0.0 if ended[k] else gamma * following[k]
            expected = expected + factor * (reward[k] + rest - value[k])
            if ended[k] or cut[k]:
                break
            factor *= gamma * trace
        torch.testing.assert_close(found[t], torch.as_tensor(expected).reshape(1))
    torch.testing.assert_close(target, found + value)


def test_episodes_returns_are_monte_carlo_with_a_bootstrap_where_cut_off():
    stream = segments(environments("Corridor-v0", 6), Episodes, lambda obs: obs[..., 1] * 0 + 7.0)
    batch = stream.draw(6)
    for target_T, obs_TO, weight_T in zip(
        batch["target"], batch["obs"], batch["weight"], strict=True
    ):
        length = int((weight_T > 0).sum())
        assert (obs_TO[:length, 0] == obs_TO[0, 0]).all()
        ends = [7.0] if length == 5 else [0.0]
        allowed = [sum(0.9**k for k in range(length)) + 0.9**length * end for end in (*ends, 0.0)]
        assert any(abs(target_T[0].item() - value) < 1e-5 for value in allowed)
    torch.testing.assert_close(batch["weight"].mean(), torch.tensor(1.0))


def test_steps_and_episodes_of_a_batch_that_nothing_learns_from_do_not_count():
    envs = environments("Corridor-v0", 6)
    stream = segments(envs, Episodes)
    learned, lengths = 0, []
    for _ in range(4):
        length_N = (stream.draw(6)["weight"] > 0).sum(1)
        learned += int(length_N.sum())
        lengths += length_N.tolist()
        assert len(set(lengths)) > 1, "environments that are done play on"
        assert stream.summary() == {"env_steps": learned}
        assert sorted(envs.finished) == sorted(lengths)
        assert stream.measures() == {"training_return": pytest.approx(np.mean(lengths))}


def test_a_batch_of_one_step_has_an_advantage_of_zero():
    envs = environments("Corridor-v0", 1)
    envs.vector.envs[0].unwrapped.step = lambda action: (
        np.zeros(2, "float32"),
        1.0,
        True,
        False,
        {},
    )
    batch = segments(envs, Episodes).draw(1)
    assert batch["advantage"].tolist() == [[0.0]] and batch["target"].tolist() == [[1.0]]


@pytest.mark.parametrize("num_envs", [7, 100])
def test_a_batch_that_is_not_whole_steps_of_all_environments_is_refused(num_envs):
    topic, cell = RL(num_envs=num_envs), Cell("rl", "actor_critic", "mse", "constant")
    words = f"^batch size 80 of actor_critic: it must be a multiple of num_envs {num_envs}, as"
    with pytest.raises(UsageError, match=words):
        Training(topic, cell, Budget(3, 80))
    batch = Training(RL(num_envs=8), cell, Budget(3, 80)).batches.draw(80)
    assert len(batch["obs"]) == 80


def test_segments_go_on_where_the_last_ended():
    envs = environments("Corridor-v0", 2)
    stream = segments(envs)
    stream.draw(4)
    shown = envs.obs.clone()
    assert torch.equal(stream.draw(4)["obs"][:2], shown)


def test_sample_follows_the_softmax():
    logits = torch.tensor([[0.0, 1.0, 2.0]]).expand(20_000, -1)
    drawn = sample(logits, torch.Generator().manual_seed(0))
    share = torch.bincount(drawn, minlength=3) / len(drawn)
    torch.testing.assert_close(share, logits[0].softmax(-1), atol=0.015, rtol=0)


def test_epsilon_falls_to_its_final_value():
    stream = replay(environments())
    assert stream.epsilon == 1.0
    for _ in range(10):
        stream.draw(4)
    assert stream.epsilon == pytest.approx(0.1)


def test_play_counts_each_environments_first_episode():
    returns = play(environments("Corridor-v0", 3), lambda obs: torch.ones(3, dtype=torch.int64))
    assert returns.tolist() == [3.0, 3.0, 3.0]
    returns = play(environments("Corridor-v0", 3), lambda obs: torch.zeros(3, dtype=torch.int64))
    assert returns.tolist() == [5.0, 5.0, 5.0]


def test_an_environments_state_comes_back_in_the_middle_of_an_episode():
    envs = environments()
    for _ in range(7):
        envs.step(torch.tensor([0, 1, 1]))
    state, random = envs.state_dict(), envs.generator.get_state()
    expected = [envs.step(torch.tensor([1, 0, 1])) for _ in range(30)]
    other = environments(seed=9)
    other.load_state_dict(state)
    other.generator.set_state(random)
    for one in expected:
        for was, found in zip(one, other.step(torch.tensor([1, 0, 1])), strict=True):
            assert torch.equal(was, found)
    assert other.state_dict()["finished"] == envs.state_dict()["finished"]


def test_an_environment_that_its_seed_does_not_decide_is_named():
    envs = environments("Whimsical-v0", 1)
    envs.step(torch.tensor([0]))
    with pytest.raises(UsageError, match="'Whimsical-v0' does not repeat itself"):
        environments("Whimsical-v0", 1).load_state_dict(envs.state_dict())


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("CartPole-v9", "unknown environment 'CartPole-v9': choose from CartPole-v1"),
        ("Pendulum-v1", "no discrete actions"),
        ("nowhere_:Env-v0", "module .nowhere_. cannot be imported: ModuleNotFoundError"),
        pytest.param(
            "MinAtar/Breakout-v1",
            r"torch-decathlon\[minatar\]",
            marks=pytest.mark.skipif(find_spec("minatar") is not None, reason="MinAtar is here"),
        ),
    ],
)
def test_an_unfit_environment_is_one_line(env, words):
    with pytest.raises(UsageError, match=words):
        make(env)


@pytest.mark.parametrize("model", AGENTS)
def test_resume_is_bit_for_bit_in_the_middle_of_an_episode(model):
    topic, cell = RL(learning_starts=100, buffer_size=200), Cell("rl", model, "ce", "cosine")
    budget = Budget(steps=8, batch_size=4 if model == "policy_gradient" else 40)
    straight = Training(topic, cell, budget)
    straight.run(4)
    content = straight.state_dict()
    straight.run(8)
    resumed = Training(topic, cell, budget)
    resumed.load_state_dict(content)
    resumed.run(8)
    assert digest(resumed.state_dict()) == digest(straight.state_dict())


@pytest.mark.parametrize("loss", losses.FAMILIES)
@pytest.mark.parametrize("model", ["double_dueling_dqn", "actor_critic", "policy_gradient"])
def test_every_loss_trains(model, loss):
    topic = RL(learning_starts=50)
    budget = replace(topic.budget("smoke", model), steps=3)
    training = Training(topic, Cell("rl", model, loss, "constant"), budget)
    training.run(3)
    assert np.isfinite(training.evaluate()["return"])


def test_the_target_network_follows_in_steps():
    topic = RL(learning_starts=50, target_updates=2)
    training = Training(topic, Cell("rl", "dqn", "mse", "constant"), Budget(4, 16))
    states = []
    for step in range(1, 4):
        training.run(step)
        pair = (training.networks[name].state_dict() for name in ("q", "target"))
        states.append(digest(next(pair)) == digest(next(pair)))
    assert states == [False, True, False]


def test_other_environments_and_their_supports():
    topic = RL(env="Acrobot-v1", learning_starts=50)
    training = Training(topic, Cell("rl", "dqn", "ce", "constant"), Budget(3, 16))
    training.run(3)
    assert training.evaluate()["return"] >= -500
    assert RL(env="MountainCar-v0")._form(Cell("rl", "dqn", "mse", "constant")).width == 1


def test_a_known_support_is_that_of_its_gamma_only():
    assert support("CartPole-v1", 0.99) == (0.0, 100.0, 1.0, "")
    low, high, unit, note = support("CartPole-v1", 0.999)
    assert (low, unit) == (0.0, 1.0) and high == pytest.approx((1 - 0.999**500) / 0.001)
    assert "values are taken to lie in 0..393.6" in note
    assert support("CartPole-v1", 1.0)[:2] == (0.0, 500.0)
    assert support("CartPole-v1", 0.0)[:2] == (0.0, 1.0)


@pytest.mark.parametrize("name", ["gamma", "gae_lambda"])
def test_a_discount_is_a_share(name):
    for value in (-0.1, 1.5, float("nan")):
        with pytest.raises(UsageError, match=f"^{name} {value}: it must be from 0 to 1$"):
            RL(**{name: value})
    assert RL(**{name: 0.0}) != RL(**{name: 1})


def test_steps_to_solve_needs_a_whole_window():
    envs = environments("Corridor-v0", 10)
    envs.threshold = 4.0
    for _ in range(45):
        envs.step(torch.zeros(10, dtype=torch.int64))
    assert envs.solved_at is None
    for _ in range(5):
        envs.step(torch.zeros(10, dtype=torch.int64))
    assert envs.summary() == {"env_steps": 500.0, "steps_to_solve": 500}


def test_steps_to_solve_leaves_out_what_does_not_count():
    envs = environments("Corridor-v0", 10)
    envs.threshold = 4.0
    going = torch.arange(10) < 5
    for _ in range(100):
        assert envs.solved_at is None
        envs.step(torch.zeros(10, dtype=torch.int64), going)
    assert envs.summary() == {"env_steps": 500.0, "steps_to_solve": 500}
