"""Streams of batches whose position can be saved: base class, shuffled data, data with noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.axes import parallel
from harness.cell import UsageError
from harness.training.transfers import Ahead, Copied, together


class Batches:
    """A stream of training batches that can be saved and brought back at any step.

    An environment is one too: it plays on before each batch, and measures its returns.
    """

    def draw(self, size: int) -> dict[str, Tensor]:
        """Return the next ``size`` samples as named tensors, samples along the first dimension."""
        raise NotImplementedError

    def draw_share(self, size: int, rank: int, ranks: int) -> dict[str, Tensor]:
        """Return a rank's equal part of the next ``size`` samples; all ranks move on alike."""
        return parallel.shard(self.draw(size), rank, ranks)

    def state_dict(self) -> dict[str, Any]:
        """Return where the stream is, as a tree; what the loop's generator holds is left out."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what ``state_dict`` returned."""

    def measures(self) -> dict[str, float]:
        """Return what the stream now sees of the training, for the curve; empty for plain data."""
        return {}

    def summary(self) -> dict[str, float]:
        """Return what the stream adds to the metrics in the end; empty for plain data."""
        return {}


class Shuffled(Batches):
    """An endless stream of batches of tensors, reshuffled every epoch, without incomplete batches.

    tensors: all samples by name, along the first dimension. rows: the indices of those that are
    drawn, by default all. The device gets an epoch's order once.
    """

    def __init__(
        self,
        tensors: dict[str, Tensor],
        generator: torch.Generator,
        device: torch.device,
        rows: Tensor | None = None,
    ) -> None:
        self.tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        self.rows = torch.arange(len(next(iter(tensors.values())))) if rows is None else rows
        self.size = len(self.rows)
        self.generator = generator
        self.device = device
        self._copied = Copied(device)
        self.order, self.position = torch.empty(0, dtype=torch.int64), 0

    def draw(self, size: int) -> dict[str, Tensor]:
        """Return the next ``size`` samples. Raises UsageError if the data has fewer."""
        self.advance(size)
        return self.at(self._copied(self.order)[self.position - size : self.position])

    def advance(self, size: int) -> None:
        """Move on by ``size`` samples, into the next epoch if this one has too few.

        Raises UsageError if the data has fewer.
        """
        if self.position + size > len(self.order):
            self.shuffle(size)
        self.position += size

    def at(self, index_B: Tensor) -> dict[str, Tensor]:
        """Return the samples with these indices, which lie on the device."""
        return {name: tensor[index_B] for name, tensor in self.tensors.items()}

    def shuffle(self, size: int) -> None:
        """Begin an epoch of batches of ``size``, in a new order.

        Raises UsageError if the data has fewer samples.
        """
        if size > self.size:
            raise UsageError(f"batch size {size} is over the {self.size} training samples")
        self.order = self.rows[torch.randperm(self.size, generator=self.generator)]
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        return {"order": self.order.clone(), "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.order, self.position = state["order"].clone(), state["position"]


class WithNoise(Batches):
    """Another stream's batches, each with further tensors of fresh standard normal noise.

    shapes: by name, the shape of a sample's noise. The noise is part of the batch so that ranks
    share it out like the data. A GPU gets an epoch's order and noise in one copy.
    """

    def __init__(self, batches: Shuffled, shapes: dict[str, tuple[int, ...]]) -> None:
        self.batches, self.shapes = batches, shapes
        self.generator = batches.generator
        self._ahead = Ahead(self.choose, self.generator, batches.device)

    def draw(self, size: int) -> dict[str, Tensor]:
        """Return the next ``size`` samples with their noise."""
        own = self.batches
        if type(own) is not Shuffled:  # it may draw in a way of its own
            batch, chosen = own.draw(size), together(self.choose(size, 0), own.device)
            return {**chosen, **batch}
        own.advance(size)
        chosen = self._ahead.next(size, 1 + (len(own.order) - own.position) // size)
        return own.at(chosen.pop("index")) | chosen

    def choose(self, size: int, ahead: int) -> dict[str, Tensor]:
        """Return what is random in the batch ``ahead`` of the next one, on the CPU.

        ``index``: which samples are in it; and its noise, drawn in the order of ``shapes``.
        """
        end = self.batches.position + ahead * size
        noise = {
            name: torch.randn(size, *shape, generator=self.generator)
            for name, shape in self.shapes.items()
        }
        return {"index": self.batches.order[end - size : end], **noise}

    def state_dict(self) -> dict[str, Any]:
        return self.batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches.load_state_dict(state)
        self._ahead.forget()
