"""Where an agent's networks act: on the CPU, as its environments do, also if they learn on a GPU.

A step of an environment needs an answer at once: asked on a GPU, each costs two copies between it
and the CPU, which wait for all that it has to do. A batch's steps are played by one policy: its
weights are copied once. Networks that look at images act on the GPU all the same: a pass through
them would cost the CPU more than the copies do.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from harness.axes import parallel
from harness.training.transfers import together

CPU = torch.device("cpu")


class Acting:
    """Networks as they act: themselves, or copies on the CPU that follow them.

    learns_on: the networks' device. copies: on the CPU, of the same names; None where the networks
    themselves act. device: where whoever acts is.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        learns_on: torch.device,
        copies: Mapping[str, nn.Module] | None = None,
    ) -> None:
        self._networks, self._copies = networks, copies
        self.device = learns_on if copies is None else CPU

    def now(self) -> Mapping[str, nn.Module]:
        """Return the networks to act by, with the weights that have been learned by now.

        All ranks call it together.
        """
        if self._copies is None:
            return self._networks
        learned = {
            f"{name}/{key}": parallel.full_tensor(tensor.detach())
            for name in self._copies
            for key, tensor in self._networks[name].state_dict().items()
        }
        copied = together(learned, CPU)
        for name, copy in self._copies.items():
            copy.train(self._networks[name].training)
            for key, tensor in copy.state_dict().items():
                tensor.copy_(copied[f"{name}/{key}"])
        return self._copies
