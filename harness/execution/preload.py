"""Imported once by the fork server, so that every worker starts warm: torch, torchvision, and
what their first step would import.
"""

import torch
import torchvision  # noqa: F401  (imported for the workers forked from here)

import harness.execution.process
import harness.trial.population  # noqa: F401  (the same)

torch.set_num_threads(1)
_network = torch.nn.Linear(1, 1)
_optimizer = torch.optim.SGD(_network.parameters(), lr=0.1)
_network(torch.zeros(1, 1)).sum().backward()
_optimizer.step()
