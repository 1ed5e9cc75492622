"""Code that decides a cell's numbers is in its fingerprint, wherever it lies."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import toy
from toy import Toy

from harness import fingerprint
from harness.cell import Cell
from harness.topics import RL, VAE


@pytest.fixture
def hashes(tmp_path, monkeypatch):
    """What ``code_hash`` gives now, of a copy of the package."""
    shutil.copytree(fingerprint.HERE, tmp_path / "harness")
    monkeypatch.setattr(fingerprint, "HERE", tmp_path / "harness")

    def now():
        fingerprint.code_hash.cache_clear()
        return fingerprint.code_hash()

    yield now
    fingerprint.code_hash.cache_clear()


@pytest.mark.parametrize(
    "module",
    [
        *("training/topic", "training/loop", "training/population/optimizers", "trial/audit"),
        *("trial/train", "axes/losses/prediction", "axes/parallel/layout", "checkpoint/state"),
        *("topics/metrics", "topics/datasets", "trial/planted"),
    ],
)
def test_a_change_in_a_deciding_room_changes_it(hashes, module):
    before = hashes()
    with open(fingerprint.HERE / f"{module}.py", "a") as file:
        file.write("\nX = 1\n")
    assert hashes() != before


@pytest.mark.parametrize("module", ["results/tables", "execution/local", "cli", "topics/rl/agents"])
def test_a_change_elsewhere_does_not(hashes, module):
    before = hashes()
    with open(fingerprint.HERE / f"{module}.py", "a") as file:
        file.write("\nX = 1\n")
    assert hashes() == before


def test_a_topic_s_whole_folder_is_hashed():
    assert fingerprint.topic_hash(RL()) != fingerprint.topic_hash(VAE())
    assert fingerprint.topic_hash(RL()) == fingerprint.topic_hash(RL(gamma=0.5))
    folder = fingerprint.HERE / "topics" / "rl"
    assert fingerprint.topic_hash(RL()) == fingerprint._hash(folder.rglob("*.py"))


def test_one_of_a_single_file_is_its_file():
    assert fingerprint.topic_hash(Toy()) == fingerprint._hash([Path(toy.__file__)])


@dataclass(frozen=True)
class Part:
    value: float = 1.0


@pytest.mark.parametrize(
    "other",
    [{"cell": Cell("t", "m", "mse", "cosine", seed=1)}, {"part": Part(2.0)}, {"more": None}],
)
def test_equal_parts_give_equal_hashes_and_others_do_not(other):
    parts = {"cell": Cell("t", "m", "mse", "cosine"), "part": Part()}
    assert fingerprint.fingerprint(**parts) == fingerprint.fingerprint(**dict(parts))
    assert fingerprint.fingerprint(**parts) != fingerprint.fingerprint(**parts | other)


def test_what_is_no_plain_value_is_refused():
    with pytest.raises(TypeError, match="object"):
        fingerprint.fingerprint(part=object())
