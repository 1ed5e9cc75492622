"""Models, data and metrics as a user would write them."""

import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset


def line():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))


def normed():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def dropped():
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))


def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


def wide(width):
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3))


def curve(outputs):
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, outputs))


def single():
    return nn.Linear(4, 1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x)


def blobs(count=240, classes=3):
    generator = np.random.default_rng(0)
    y = np.arange(count) % classes
    centre = np.eye(classes, 4)[y] * 2
    return (centre + generator.normal(size=(count, 4))).astype("float32"), y


def plane(count=240):
    x, _ = blobs(count)
    return x, 100 + 7 * (x @ np.array([1.0, -2.0, 0.5, 0.0]))


class Pictures(Dataset):
    """Images of 1x2x2, flipped, shifted and darkened by all three global generators."""

    augments = True

    def __init__(self, count=96):
        self.x, self.y = blobs(count)
        self.read = []

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        self.read.append(index)
        x = torch.from_numpy(self.x[index]).reshape(1, 2, 2)
        if self.augments:
            x = x.flip(-1) if random.random() < 0.5 else x
            x = x + 0.1 * torch.randn(1) + np.random.uniform(0, 0.1)
        return x.float(), int(self.y[index])


class Plain(Pictures):
    augments = False


def pictures():
    return Pictures()


def share_right(prediction, target):
    return (prediction.argmax(-1) == target).double().mean()


def largest_error(prediction, target):
    return (prediction - target).abs().max()


class Opened(Dataset):
    """Opens its file when its first item is read, as Datasets over HDF5 or LMDB do."""

    def __init__(self, path):
        self.path = path

    def __len__(self):
        return 96

    def __getitem__(self, index):
        if not hasattr(self, "file"):
            self.file = open(self.path, "rb")  # noqa: SIM115
        self.file.seek(0)
        x, y = blobs(96)
        return x[index], int(y[index]) if self.file.read() == b"open" else 0
