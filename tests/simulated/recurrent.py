"""CUDA's kernels of an LSTM's and a GRU's step, which the CPU has none of, by other operators.

What a forward kernel keeps for the backward one are sums before the activations here.
"""

import torch

aten = torch.ops.aten


def lstm(given, hidden, cx, bias=None, more=None):
    gates = given + hidden if bias is None else given + hidden + bias + more
    enter, stay, new, out = gates.chunk(4, 1)
    cy = stay.sigmoid() * cx + enter.sigmoid() * new.tanh()
    return out.sigmoid() * cy.tanh(), cy, gates


def lstm_backward(grad_hy, grad_cy, cx, cy, gates, has_bias):
    given = (gates, torch.zeros_like(gates), None, None, cx, cy)
    grad, _, grad_cx, *_ = aten._thnn_differentiable_lstm_cell_backward(grad_hy, grad_cy, *given)
    return grad, grad_cx, grad.sum(0) if has_bias else None


def gru(given, hidden, hx, bias=None, more=None):
    if bias is not None:
        given, hidden = given + bias, hidden + more
    both, (new, old) = given + hidden, (gates.chunk(3, 1)[2] for gates in (given, hidden))
    reset, stay, _ = both.chunk(3, 1)
    found = (new + reset.sigmoid() * old).tanh()
    hy = found + stay.sigmoid() * (hx - found)
    return hy, torch.cat([reset, stay, new, old, hx], 1)


def gru_backward(grad_hy, kept, has_bias):
    reset, stay, new, old, hx = kept.chunk(5, 1)
    nothing = torch.zeros_like(reset)
    gates = torch.cat([reset, stay, new], 1), torch.cat([nothing, nothing, old], 1)
    back = aten._thnn_differentiable_gru_cell_backward(grad_hy, *gates, hx, None, None)[:3]
    return *back, *(grad.sum(0) if has_bias else None for grad in back[:2])


KERNELS = {
    "_thnn_fused_lstm_cell": lstm,
    "_thnn_fused_lstm_cell_backward_impl": lstm_backward,
    "_thnn_fused_gru_cell": gru,
    "_thnn_fused_gru_cell_backward": gru_backward,
}
