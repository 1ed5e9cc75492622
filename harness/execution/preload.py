"""Modules that the fork server imports once, so that workers start with torch loaded.

It imports torch, what shards and saves sharded tensors, torchvision and the trial, and runs one
matrix product to set up its library. It never runs a backward pass: where PyTorch sees a GPU that
starts autograd's device threads, which a fork does not have, and every worker would refuse to
train.
"""

import torch
import torch.distributed.checkpoint
import torch.distributed.fsdp
import torch.distributed.optim
import torchvision  # noqa: F401  (imported for the workers forked from here)

import harness.execution.process
import harness.trial.population  # noqa: F401  (the same)

torch.set_num_threads(1)
with torch.no_grad():
    torch.nn.Linear(1, 1)(torch.zeros(1, 1))
