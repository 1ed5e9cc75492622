"""What a batch is shared out to, and layers that make something else of its parts."""

import pytest
from torch import nn

from harness.axes.parallel import shared_apart, shares
from harness.axes.parallel.replicas import Replicas


class OwnNorm(nn.BatchNorm1d):
    pass


class Frozen(nn.Sequential):
    """Its batch norm stays in evaluation mode, as in fine-tuning."""

    def train(self, mode=True):
        super().train(mode)
        return self[0].eval() and self


def named(layer, accumulate=1):
    return shared_apart({"model": nn.Sequential(nn.Linear(3, 3), layer)}, accumulate)


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (nn.BatchNorm1d(3), "BatchNorm1d in model: statistics"),
        (nn.BatchNorm2d(3, momentum=None), "BatchNorm2d in model: statistics"),
        (nn.LazyBatchNorm3d(), "LazyBatchNorm3d in model: statistics"),
        (nn.BatchNorm1d(3, track_running_stats=False).eval(), "BatchNorm1d in model: statistics"),
        (OwnNorm(3), "OwnNorm in model: statistics"),
        (nn.InstanceNorm2d(3, track_running_stats=True), "InstanceNorm2d in model: statistics"),
        (nn.Dropout(0.1), "Dropout in model: random numbers"),
        (nn.Dropout2d(0.1), "Dropout2d in model: random numbers"),
        (nn.AlphaDropout(0.1), "AlphaDropout in model: random numbers"),
        (nn.FeatureAlphaDropout(0.1), "FeatureAlphaDropout in model: random numbers"),
        (nn.RReLU(), "RReLU in model: random numbers"),
        (nn.LSTM(3, 3, num_layers=2, dropout=0.1), "LSTM in model: random numbers"),
        (nn.GRU(3, 3, num_layers=2, dropout=0.1), "GRU in model: random numbers"),
        (nn.MultiheadAttention(4, 2, dropout=0.1), "MultiheadAttention in model: random numbers"),
    ],
)
def test_a_layer_that_differs_by_part_is_named_with_what_differs(layer, what):
    assert named(layer) == [what]


@pytest.mark.parametrize(
    "layer",
    [
        nn.GroupNorm(1, 3),
        nn.LayerNorm(3),
        nn.InstanceNorm2d(3),
        nn.BatchNorm1d(3).eval(),
        nn.SyncBatchNorm(3),
        nn.Dropout(0.0),
        nn.Dropout(0.5).eval(),
        nn.RReLU(0.2, 0.2),
        nn.LSTM(3, 3, num_layers=2),
        nn.LSTM(3, 3, num_layers=2, dropout=0.1).eval(),
        nn.MultiheadAttention(4, 2),
        Frozen(nn.BatchNorm1d(3)).train(),
    ],
)
def test_one_that_treats_samples_alike_wherever_they_are_is_not(layer):
    assert named(layer) == []


def test_ranks_share_synchronised_statistics_but_parts_do_not():
    assert named(nn.SyncBatchNorm(3), accumulate=2) == ["SyncBatchNorm in model: statistics"]


def test_each_kind_of_layer_is_named_once_a_network():
    block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1)
    networks = {"body": nn.Sequential(block, nn.Dropout(0.2)), "head": nn.Dropout(0.2)}
    assert shared_apart(networks) == [
        "MultiheadAttention in body: random numbers",
        "Dropout in body: random numbers",
        "Dropout in head: random numbers",
    ]


@pytest.mark.parametrize(
    ("name", "ranks", "accumulate", "each"),
    [
        ("single", 1, 1, ""),
        ("single", 1, 4, "part"),
        ("dp", 1, 1, "GPU"),
        ("dp", 1, 2, "GPU and part"),
        ("ddp", 1, 1, ""),
        ("fsdp", 1, 2, "part"),
        ("zero1", 2, 1, "rank"),
        ("local_sgd", 2, 2, "rank and part"),
    ],
)
def test_what_a_batch_is_shared_out_to(name, ranks, accumulate, each):
    assert shares(name, ranks, accumulate) == each


def test_what_dp_does_not_know_to_join_torch_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(nn.DataParallel, "gather", lambda self, values, where: asked.append(values))
    replicas = Replicas(nn.Linear(3, 3))
    assert replicas.gather([("a", None, 2)] * 2, 0) == ("a", None, 2) and not asked
    unknown = object()
    replicas.gather([[unknown], [unknown]], 0)
    assert asked == [(unknown, unknown)]
