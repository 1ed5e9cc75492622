"""The range and the unit of values, from what a random policy is paid."""

from __future__ import annotations

from functools import cache
from statistics import median
from typing import NamedTuple

from harness.topics.rl.environments import random_rewards
from harness.topics.rl.registration import traits

GAMMA = 0.99
SUPPORT = {  # of values at GAMMA, and their unit; else a random policy's rewards tell
    "CartPole-v1": (0.0, 100.0, 1.0),
    "Acrobot-v1": (-100.0, 0.0, 1.0),
    "LunarLander-v3": (-300.0, 300.0, 1.0),
}
STEPS = 1_000  # of the random policy
ENOUGH = 5  # paid ends that show that only ends are paid


class Support(NamedTuple):
    """The least and the greatest value to expect, and how that is known; empty if it is known.

    unit: the size of a usual reward, in which errors of values are large or small: the median of
    the rewards other than 0 without their signs. DQN clips rewards to -1..1 and takes an error
    beyond 1 as large (Mnih et al. 2015); here rewards stay and the error's scale follows them.
    """

    low: float
    high: float
    unit: float
    note: str = ""


@cache
def support(env: str, gamma: float) -> Support:
    """Return the least and the greatest discounted return to expect in an environment.

    The extreme reward may come at every step up to the time limit; but once an episode where only
    ends are paid.
    """
    if env in SUPPORT and gamma == GAMMA:
        return Support(*SUPPORT[env])
    going, last = random_rewards(env, steps=STEPS)
    if any(going) or sum(map(bool, last)) < ENOUGH:
        going, last = going + last, []
    limit = traits(env).limit
    steps = limit if gamma == 1 else (1 - gamma**limit) / (1 - gamma)
    low = min([0.0, *going]) * steps + min([0.0, *last])
    high = max([0.0, *going]) * steps + max([0.0, *last])
    beyond = "; ce, kl and log_loss cut off what lies beyond"
    if low == high:
        found = f"no reward in {STEPS:,} random steps: values are taken to lie in 0..1"
        return Support(0.0, 1.0, 1.0, found + beyond)
    met = f"{min(going + last):g}..{max(going + last):g}"
    found = f"rewards of {met} in {STEPS:,} random steps: values are taken to lie in "
    unit = median(abs(reward) for reward in going + last if reward)
    note = f"{found}{low:g}..{high:g}{beyond}; an error of {unit:g}, the usual reward, is large"
    return Support(low, high, unit, note)
