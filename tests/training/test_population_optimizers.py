"""Update rules for rows against torch.optim's own."""

import pytest
import torch
from torch import nn

from harness.axes.optimizers import OptimizerSpec
from harness.training.population import optimizers as rules


@pytest.mark.parametrize("kind", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_rule_does_what_torch_s_optimizer_does_at_each_member_s_rate(kind, decay, momentum):
    base = OptimizerSpec(kind, lr=0.1, weight_decay=decay, momentum=momentum)
    values = [nn.Parameter(torch.randn(7, dtype=torch.float64)) for _ in range(3)]
    rates = [0.1, 0.02, 1e-3]
    optimizers = [base.build(kind, [value]) for value in values]
    rule, options = rules.rule(optimizers[0]), rules.options_of(optimizers[0])
    stack = torch.stack([value.detach().clone() for value in values])
    moments = {name: torch.zeros_like(stack) for name in rule.moments}
    for step in range(1, 31):
        gradient = torch.randn(3, 7, dtype=torch.float64)
        for place, optimizer in enumerate(optimizers):
            values[place].grad = gradient[place].clone()
            optimizer.param_groups[0]["lr"] = rates[place]
            optimizer.step()
        divisor, root = rule.corrections(step, options)
        rate = torch.tensor(rates, dtype=torch.float64)[:, None] / divisor
        rule.apply(stack, gradient, moments, rate, torch.tensor(root, dtype=torch.float64), options)
    expected = torch.stack([value.detach() for value in values])
    torch.testing.assert_close(stack, expected, rtol=1e-9, atol=1e-12)
    for name in rule.moments:
        kept = torch.stack([o.state[v][name] for o, v in zip(optimizers, values, strict=True)])
        torch.testing.assert_close(moments[name], kept, rtol=1e-12, atol=0)


def test_options_without_a_rule_are_refused():
    one = [nn.Parameter(torch.zeros(1))]
    assert rules.rule(torch.optim.SGD(one, 0.1, momentum=0.9, nesterov=True)) is None
    assert rules.rule(torch.optim.Adam(one, amsgrad=True)) is None
    assert rules.rule(torch.optim.AdamW(one)) is None
    assert rules.rule(torch.optim.RMSprop(one, centered=True)) is None
