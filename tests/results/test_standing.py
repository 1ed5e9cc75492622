"""Intervals cover, and what cannot be told apart from the leader is not called worse."""

import numpy as np
import pytest

from harness.results.standing import interval, standings


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("error", [0.0, 0.5, 1.5])
def test_the_interval_covers_other_seeds_and_other_test_samples(seeds, error):
    draw = np.random.default_rng(seeds)
    shared = draw.normal(0, error, (4000, 1)) if error else 0.0
    values = draw.normal(0, 1, (4000, seeds)) + shared
    count = np.full(4000, seeds)
    low, high = interval(values.mean(1), values.std(1, ddof=1), count, np.full(4000, error))
    assert np.mean((low < 0) & (high > 0)) >= 0.93


def test_one_seed_has_no_interval():
    low, high = interval(np.ones(1), np.full(1, np.nan), np.ones(1, int), np.zeros(1))
    assert np.isnan([low, high]).all()


def of(values, error=0.0, trained=None):
    counts = np.array([len(v) for v in values])
    mean = np.array([np.mean(v) for v in values])
    sd = np.array([np.std(v, ddof=1) if len(v) > 1 else np.nan for v in values])
    trained = counts if trained is None else np.array(trained)
    return standings(mean, sd, counts, np.full(len(values), error), trained).tolist()


def test_one_seed_tells_nothing_apart():
    assert of([[0.99], [0.1], [0.5]]) == ["one seed"] * 3


def test_the_best_needs_all_others_to_be_worse():
    far, near = [0.1, 0.11, 0.12], [0.89, 0.92, 0.9]
    lead = [0.9, 0.91, 0.92]
    assert of([far, lead]) == ["worse", "best"]
    assert of([far, lead, near]) == ["worse", "tied", "tied"]
    assert of([far, lead, [0.5]]) == ["worse", "tied", "one seed"]
    assert of([far, lead, [0.0, 0.0]], trained=[3, 3, 0]) == ["worse", "best", "untrained"]
    assert of([lead]) == ["only"]


def test_ties_at_a_cap_are_ties():
    assert of([[500.0] * 3, [500.0] * 3, [499.0] * 3]) == ["tied"] * 3


def test_coarse_values_that_coincide_are_held_against_the_test_samples():
    assert of([[0.981, 0.981, 0.982], [0.975, 0.975, 0.975]], error=0.007) == ["tied"] * 2


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_truly_best_is_seldom_called_worse(seeds):
    draw = np.random.default_rng(seeds)
    spread = np.array([1.0] * 5 + [3.0] * 5)
    lost = 0
    for _ in range(400):
        values = draw.normal(0, spread[:, None], (10, seeds))
        lost += of(list(values))[0] == "worse"
    assert lost / 400 <= 0.05
