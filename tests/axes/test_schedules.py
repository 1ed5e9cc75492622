"""Each schedule's rate at each step against its closed form."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.axes import schedules
from harness.axes.optimizers import OptimizerSpec
from harness.cell import UsageError

BASE = OptimizerSpec("sgd", lr=0.1, adaptive_lr=0.003)


def rates(name, steps, loss=lambda step: 1.0):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer, schedule = schedules.build(name, BASE, [parameter], steps)
    found = []
    for step in range(steps):
        parameter.grad = torch.ones(2)
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedules.step(schedule, loss(step))
    return found


CLOSED = {
    "constant": lambda t, n: 0.1,
    "adam": lambda t, n: 0.003,
    "rmsprop": lambda t, n: 0.003,
    "exponential": lambda t, n: 0.1 * 0.01 ** (t / n),
    "cosine": lambda t, n: 0.05 * (1 + math.cos(math.pi * t / n)),
    "piecewise": lambda t, n: 0.1 * (0.1 if t >= n // 2 else 1) * (0.1 if t >= n * 3 // 4 else 1),
    "warmup_cosine": lambda t, n: (
        0.1 * (t + 1) / (n // 10 + 1)
        if t < n // 10
        else 0.05 * (1 + math.cos(math.pi * (t - n // 10) / (n - n // 10)))
    ),
}


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("steps", [20, 100])
def test_the_rate_follows_its_closed_form(name, steps):
    expected = [CLOSED[name](t, steps) for t in range(steps)]
    assert rates(name, steps) == pytest.approx(expected, rel=1e-9)


def test_one_cycle_rises_to_the_base_rate_and_falls_below_its_start():
    found = rates("one_cycle", 100)
    top = found.index(max(found))
    assert max(found) == pytest.approx(0.1, rel=0.01) and 25 <= top <= 35
    assert found[: top + 1] == sorted(found[: top + 1]) and found[-1] < found[0] / 10


def test_plateau_does_not_fall_for_the_noise_of_single_batches():
    noise = torch.randn(500, generator=torch.Generator().manual_seed(0)).tolist()
    falling = rates("plateau", 500, lambda step: 10 - step / 50 + noise[step])
    assert falling == [0.1] * 500
    least, since, longest = math.inf, 0, 0
    for step in range(500):  # single losses, as it looked at before: 50 without a new least one
        value = 10 - step / 50 + noise[step]
        since = 0 if value < least else since + 1
        least, longest = min(least, value), max(longest, since)
    assert longest > 50


def test_plateau_goes_on_from_the_middle_of_a_window():
    parameter = torch.nn.Parameter(torch.ones(2))
    (_, whole), (_, resumed) = (
        schedules.build("plateau", BASE, [parameter], 200) for _ in range(2)
    )
    for step in range(7):
        schedules.step(whole, float(step))
    resumed.load_state_dict(whole.state_dict())
    assert (resumed.seen, resumed.total) == (whole.seen, whole.total) == (3, 15.0)


def test_plateau_adds_up_tensors_as_it_does_numbers():
    losses = torch.rand(90, generator=torch.Generator().manual_seed(0))
    parameter = torch.nn.Parameter(torch.ones(2))
    (_, numbers), (_, tensors) = (
        schedules.build("plateau", BASE, [parameter], 500) for _ in range(2)
    )
    for loss in losses:
        schedules.step(numbers, loss.item())
        schedules.step(tensors, loss)
        assert tensors.state_dict() == numbers.state_dict()
        assert type(tensors.state_dict()["total"]) is float


def test_plateau_is_skipped_where_the_loss_measures_no_progress():
    assert "no measure of progress" in schedules.skip_reason("plateau", BASE, loss_falls=False)
    assert schedules.skip_reason("plateau", BASE) is None
    assert schedules.skip_reason("cosine", BASE, loss_falls=False) is None


def test_plateau_falls_when_the_loss_stalls_and_not_before():
    assert rates("plateau", 40, lambda step: -float(step)) == [0.1] * 40
    stalled = rates("plateau", 40)
    assert stalled[5] == 0.1 and stalled[7] == pytest.approx(0.1 / 3)


@pytest.mark.parametrize("sign", [1, -1])
def test_plateau_falls_alike_when_a_loss_of_either_sign_stalls_or_creeps_up(sign):
    assert rates("plateau", 200, lambda step: float(sign)) == rates("plateau", 200)
    creeping = rates("plateau", 200, lambda step: sign + step / 1e6)
    assert creeping == rates("plateau", 200)


@pytest.mark.parametrize("name", schedules.NAMES)
@given(steps=st.integers(1, 60))
def test_every_rate_is_between_zero_and_the_base_rate(name, steps):
    assert all(0 <= rate <= 0.1 + 1e-12 for rate in rates(name, steps))


def test_a_schedule_that_equals_another_says_so():
    adam = OptimizerSpec("adam", lr=1e-3)
    assert "base optimizer is adam already" in schedules.skip_reason("adam", adam)
    assert all(schedules.skip_reason(name, BASE) is None for name in schedules.NAMES)


def test_an_unknown_schedule_is_named():
    with pytest.raises(UsageError, match="unknown schedule 'cosin': choose from cosine"):
        schedules.build("cosin", BASE, [], 1)


@pytest.mark.parametrize("name", schedules.NAMES)
def test_groups_keep_the_ratio_of_their_own_rates(name):
    slow, fast = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    groups = [{"params": [slow], "lr": 0.01}, {"params": [fast]}]
    optimizer, schedule = schedules.build(name, BASE, groups, 40)
    alone = rates(name, 40)
    for step in range(40):
        slow.grad, fast.grad = torch.ones(2), torch.ones(2)
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert second == pytest.approx(alone[step], rel=1e-9, abs=1e-12), step
        assert first == pytest.approx(second / 10, rel=1e-6, abs=1e-9), step
        optimizer.step()
        schedules.step(schedule, 1.0)
