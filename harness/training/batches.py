"""Streams of batches whose position can be saved: base class, shuffled data, data with noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from harness.axes import parallel
from harness.cell import UsageError
from harness.training.transfers import Ahead, Copied, together

INDEX = "which samples"  # no name of a tensor
Derive = Callable[[dict[str, Tensor]], dict[str, Tensor]]


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
    """Another stream's batches, each with further tensors of fresh random numbers.

    shapes: by name, the shape of a sample's standard normal noise. choices: by name, how many
    there are of which a sample gets one, its number from 0. derive: from such a batch the further
    tensors that follow from it, a pure function that ``torch.func.vmap`` can map. What is drawn is
    part of the batch so that ranks share it out like the data. A GPU gets an
    epoch's order and random numbers in one copy.
    """

    def __init__(
        self,
        batches: Shuffled,
        shapes: Mapping[str, tuple[int, ...]],
        choices: Mapping[str, int] | None = None,
        derive: Derive | None = None,
    ) -> None:
        self.batches, self.shapes = batches, shapes
        self.choices, self.derive = choices or {}, derive
        self.generator = batches.generator
        self._ahead = Ahead(self.choose, self.generator, batches.device)

    def draw(self, size: int) -> dict[str, Tensor]:
        """Return the next ``size`` samples with what is drawn for them and derived."""
        own = self.batches
        if type(own) is Shuffled:
            own.advance(size)
            chosen = self._ahead.next(size, 1 + (len(own.order) - own.position) // size)
            batch = own.at(chosen.pop(INDEX)) | chosen
        else:  # it may draw in a way of its own
            batch = own.draw(size)
            batch |= together(self.draw_random(size, self.generator), own.device)
        return batch | self.derive(batch) if self.derive else batch

    def choose(self, size: int, ahead: int) -> dict[str, Tensor]:
        """Return what is random in the batch ``ahead`` of the next one, on the CPU.

        INDEX: which samples are in it; and what is drawn for them.
        """
        end = self.batches.position + ahead * size
        random = self.draw_random(size, self.generator)
        return {INDEX: self.batches.order[end - size : end], **random}

    def draw_random(self, size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return what is drawn for ``size`` samples, on the CPU."""
        noise = {
            name: torch.randn(size, *shape, generator=generator)
            for name, shape in self.shapes.items()
        }
        return noise | {
            name: torch.randint(count, (size,), generator=generator)
            for name, count in self.choices.items()
        }

    def state_dict(self) -> dict[str, Any]:
        return self.batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches.load_state_dict(state)
        self._ahead.forget()
