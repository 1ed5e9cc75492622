"""Environments that users bring: found, seen as arrays, paid, and taken to worker processes."""

import pickle
import sys
from types import ModuleType

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from harness.cell import Budget, Cell, Status, UsageError
from harness.execution.local import LocalExecutor
from harness.topics.rl import registration
from harness.topics.rl.agents import RL
from harness.topics.rl.environments import Environments
from harness.topics.rl.networks import Torso
from harness.topics.rl.observations import observed
from harness.topics.rl.rewards import support
from harness.training.loop import Training
from harness.trial.task import Task

CELL = Cell("rl", "dqn", "ce", "constant")


class Own(gymnasium.Env):
    """Ends after four steps; ``fails`` in its third one."""

    def __init__(self, space=None, reward=1.0, fails=False, start=0):
        self.observation_space = space or spaces.Box(-1, 1, (2,))
        self.action_space = spaces.Discrete(2, start=start)
        self.reward, self.fails = reward, fails

    def see(self):
        self.observation_space.seed(self.at)
        return self.observation_space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.see(), {}

    def step(self, action):
        assert action in self.action_space
        self.at += 1
        if self.fails and self.at == 3:
            raise ValueError("the wheel came off\nand rolled away")
        return self.see(), self.reward, self.at == 4, False, {"luck": object()}


@pytest.fixture
def own(request):
    """Registers environments of this test and forgets them after it."""

    def register(entry=Own, **arguments):
        name = f"Own{abs(hash(request.node.name))}-v{len(made)}"
        made.append(name)
        gymnasium.register(name, entry, max_episode_steps=9, kwargs=arguments)
        return name

    made = []
    yield register
    for name in made:
        del gymnasium.registry[name]


@pytest.mark.parametrize(
    ("space", "shape", "dtype", "channels"),
    [
        (spaces.Discrete(5, start=3), (5,), torch.uint8, ""),
        (spaces.Tuple((spaces.Discrete(3), spaces.Discrete(2))), (5,), torch.uint8, ""),
        (spaces.MultiDiscrete([3, 4]), (7,), torch.uint8, ""),
        (spaces.Dict(a=spaces.Discrete(3), b=spaces.Box(0, 1, (2,))), (5,), torch.float32, ""),
        (spaces.Box(0, 8, ()), (1,), torch.float32, ""),
        (spaces.Box(0, 1, (4,)), (4,), torch.float32, ""),
        (spaces.Box(0, 1, (5, 5)), (5, 5), torch.float32, ""),
        (spaces.Box(0, 255, (12, 12), "uint8"), (12, 12), torch.uint8, "none"),
        (spaces.Box(0, 255, (3, 8, 12), "uint8"), (3, 8, 12), torch.uint8, "first"),
        (spaces.Box(0, 255, (40, 50, 3), "uint8"), (40, 50, 3), torch.uint8, "last"),
        (spaces.Box(0, 1, (10, 10, 10), bool), (10, 10, 10), torch.float32, "last"),
        (spaces.Box(0, 1, (5, 5, 20)), (5, 5, 20), torch.float32, "last"),
        (spaces.Box(0, 1, (2, 2, 2)), (2, 2, 2), torch.float32, ""),
    ],
    ids=str,
)
def test_every_kind_of_observation_reaches_the_network(own, space, shape, dtype, channels):
    seen = observed(space)
    assert (seen.shape, seen.dtype, seen.channels) == (shape, dtype, channels)
    envs = Environments(own(space=space), 3, torch.Generator().manual_seed(0))
    assert envs.obs.shape == (3, *shape) and envs.obs.dtype == dtype
    assert Torso(seen, (8,))(envs.obs).shape == (3, 8)


def test_pixels_are_divided_by_their_greatest_value():
    torso = Torso(observed(spaces.Box(0, 255, (4, 4), "uint8")), (8,))
    assert torso[0](torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("space", [spaces.Text(3), spaces.Discrete(2**31)], ids=str)
def test_what_is_no_array_is_one_line(own, space):
    with pytest.raises(UsageError, match="shows (Text|Discrete)") as found:
        registration.make(own(space=space))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("space", ["observation_space", "action_space"])
def test_a_space_that_is_not_there_is_one_line(own, space):
    def without(**arguments):
        made = Own(**arguments)
        delattr(made, space)
        return made

    with pytest.raises(UsageError, match=f"gives no {space}, .*: AttributeError: ") as found:
        RL(env=own(entry=without)).data_notes()
    assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize("reward", [np.array([0.5], "float32"), 3, 1e7])
def test_rewards_of_every_kind_train_with_actions_from_five(own, reward):
    training = Training(
        RL(env=own(reward=reward, start=5), learning_starts=50), CELL, Budget(3, 16)
    )
    training.run(3)
    assert training.evaluate()["return"] == pytest.approx(4 * float(np.sum(reward)))


@pytest.mark.parametrize("reward", [np.ones(2), float("nan"), 1e39, None, "much"])
def test_a_reward_that_is_no_number_is_one_line(own, reward):
    with pytest.raises(UsageError, match="gives a reward of"):
        RL(env=own(reward=reward)).data_notes()


def test_no_reward_is_said_and_values_lie_in_0_to_1(own):
    low, high, _, note = support(own(reward=0), 0.99)
    assert (low, high) == (0.0, 1.0) and note.startswith("no reward in 1,000 random steps")


def test_where_only_ends_are_paid_a_value_is_at_most_one_reward():
    assert support("Blackjack-v1", 0.99)[:2] == (-1.0, 1.0)


def test_an_environment_that_raises_is_named_with_its_own_reason(own):
    with pytest.raises(UsageError, match="fails in step: ValueError: the wheel came off$"):
        RL(env=own(fails=True)).data_notes()
    with pytest.raises(UsageError, match="cannot be made: TypeError: .*colour"):
        RL(env=own(colour="red")).dataset_id()


class OldReset(Own):
    """Returns what Gym's ``reset`` returned: an observation of as many values as it has."""

    def reset(self, **settings):
        return super().reset(**settings)[0]


class OldStep(Own):
    """Returns what Gym's ``step`` returned: four values, the third whether the episode is done."""

    def step(self, action):
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, info


def test_an_environment_of_the_old_api_is_told_the_new_one(own):
    box, number = spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, ())
    for space in (box, spaces.Box(-1, 1, (4,)), number, spaces.Dict(a=box, b=number)):
        name = own(entry=OldReset, space=space)
        with pytest.raises(UsageError, match=f"'{name}' .*options=[)] returns observation, info$"):
            RL(env=name).data_notes()
    name = own(entry=OldStep)
    words = "[)] returns observation, reward, terminated, truncated, info$"
    with pytest.raises(UsageError, match=f"'{name}' fails in step: .*{words}"):
        RL(env=name).data_notes()


def test_settings_and_classes_are_in_what_the_fingerprint_hashes(own):
    one, other = RL(env=own(reward=1)), RL(env=own(reward=2))
    assert one.dataset_id().split("+")[1] != other.dataset_id().split("+")[1]
    assert Own in one.depends_on() and RL().depends_on() == []
    assert RL().dataset_id() == f"CartPole-v1@gymnasium-{gymnasium.__version__}"


def test_a_module_is_imported_first(tmp_path, monkeypatch):
    entry = "gymnasium.envs.classic_control:CartPoleEnv"
    code = f"import gymnasium\ngymnasium.register('Late-v0', '{entry}')"
    (tmp_path / "late_module.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert any("no time limit" in note for note in RL(env="late_module:Late-v0").data_notes())
    with pytest.raises(UsageError, match="unknown environment 'Lat-v0': choose from Late-v0"):
        RL(env="late_module:Lat-v0").dataset_id()
    del gymnasium.registry["Late-v0"]


def test_what_a_conftest_defines_is_pickled_with_its_code(own, monkeypatch):
    module = ModuleType("conftest")
    kind = type("Local", (Own,), {"__module__": "conftest"})
    module.Local = kind
    monkeypatch.setitem(sys.modules, "conftest", module)
    name = own(entry=kind)
    packed = pickle.dumps(RL(env=name))
    assert b"conftest" in packed
    monkeypatch.delitem(sys.modules, "conftest")
    gymnasium.registry.pop(name)
    assert pickle.loads(packed) == RL(env=name)
    assert gymnasium.registry[name].entry_point.__name__ == "Local"


def test_a_worker_trains_in_what_only_its_parent_registered(own, tmp_path):
    name = own(space=spaces.Discrete(4))
    executor = LocalExecutor(cores=1)
    topic = RL(env=name, learning_starts=50)
    executor.submit([Task(topic, CELL, Budget(6, 16, timeout_s=60), tmp_path)])
    ended = []
    try:
        while executor.pending():
            ended += executor.pump()
    finally:
        executor.close()
    ((_, outcome),) = ended
    assert outcome.status is Status.DONE, outcome.reason
    assert outcome.audited.state_equal and outcome.audited.resume_equal
