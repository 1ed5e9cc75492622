"""A script that is run again with other options trains again, and with the same ones reuses."""

import os
import subprocess
import sys

SCRIPT = """
import argparse
import functools
import random
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from harness import Budget, Loss, Form, Supervised, run

parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, default=4)
parser.add_argument("--scale", type=float, default=1.0)
parser.add_argument("--factor", type=float, default=1.0)
parser.add_argument("--other", type=int, default=0)
args = parser.parse_args()
WIDTH, SCALES, FACTOR = args.width, {"scale": [args.scale]}, args.factor
RNG = random.Random(0)
NOISE = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
NAMES = {"ReLU", "Tanh", "Sigmoid"}
SHIFT = torch.ones(4)
CACHE = {}

def table():
    if "x" not in CACHE:
        CACHE["x"] = np.eye(4, dtype="float32").repeat(10, 0) + 0.1 * NOISE
    return CACHE["x"]

@functools.cache
def target():
    return np.arange(40) % 2

def data():
    return table(), target()

def scaled(linear):
    with torch.no_grad():
        linear.weight.mul_(SCALES["scale"][0]).add_(SHIFT[: linear.in_features])
    return linear

def mlp():
    drawn = RNG.random()
    layer = getattr(nn, sorted(NAMES)[0])
    return nn.Sequential(scaled(nn.Linear(4, WIDTH)), layer(), nn.Linear(WIDTH, 2))

@dataclass(frozen=True)
class Mine(Loss):
    name: ClassVar[str] = "mine"

    def categorical(self, classes):
        return Form("mine", 1, loss, decode=lambda outputs: outputs.softmax(-1))

def loss(outputs, target):
    return FACTOR * nn.functional.cross_entropy(outputs, target, reduction="none")

if __name__ == "__main__":
    topic = Supervised(
        "api", models={"mlp": mlp}, data=data, task="classification", batch_size=8, steps=4
    )
    for _ in range(2):
        found = run(topic, "smoke", losses=[Mine()], schedules=["constant"])
        print("found", *found.cells[["status", "cost.parameters", "fingerprint"]].values.tolist())
"""
PLAIN = SCRIPT.replace("RNG.random()", "None")


def told(folder, *options, source=PLAIN, seed=0):
    """What a run of the script prints of its cell, in both of its calls, and all that it prints."""
    (folder / "mine.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "mine.py", *options],
        env=os.environ | {"PYTHONHASHSEED": str(seed)},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    found = [line for line in lines if line.startswith("found")]
    reused = [line.partition("reused: ")[2][:1] for line in lines if line.startswith("cells to")]
    return found, reused, done.stdout


def test_other_options_train_again_and_the_same_are_reused(tmp_path):
    first, reused, _ = told(tmp_path)
    assert reused == ["0", "1"] and first[0] == first[1]
    assert told(tmp_path, seed=1)[:2] == (first, ["1", "1"])
    for option in (("--width", "2"), ("--scale", "2"), ("--factor", "2")):
        other, reused, _ = told(tmp_path, *option)
        assert reused == ["0", "1"] and other[0] == other[1] != first[0], option
    assert told(tmp_path, "--other", "1", "--factor", "2")[1] == ["1", "1"]


def test_what_changes_by_use_is_named_and_nothing_is_reused(tmp_path):
    for _ in range(2):
        found, reused, printed = told(tmp_path, source=SCRIPT)
        assert reused == ["0", "0"] and "done" in found[0]
    assert "api: no cell is reused, for its code uses RNG (Random): make that inside" in printed


LOOP = """
from dataclasses import dataclass
from typing import ClassVar
import harness
from toy import Toy

for slope in (0.25, 0.5):

    @dataclass(frozen=True)
    class Mine(Toy):
        name: ClassVar[str] = "mine"

        def evaluate(self, networks, cell):
            return super().evaluate(networks, cell) | {"mse": slope}

    print("found", harness.run(Mine(), "smoke", models=["line"]).cells["metric.mse"].tolist())
"""


def test_a_loop_over_a_global_value_trains_each(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    found, reused, _ = told(tmp_path, source=LOOP)
    assert found == ["found [0.25]", "found [0.5]"] and reused == ["0", "0"]
