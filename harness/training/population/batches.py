"""Draw the batches of all members of a population at once.

Shapes: N members, B batch, M samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import vmap

from harness.training.batches import Batches, Shuffled, WithNoise
from harness.training.transfers import onto


def share(first: Batches, other: Batches) -> str | None:
    """Let two streams share the first one's data. Returns why they cannot; None if they do.

    Only plain data can be drawn as one, shuffled and with noise or not: a stream that acts with
    the networks cannot.
    """
    plain = type(first) in (Shuffled, WithNoise) and type(_shuffled(first)) is Shuffled
    if type(first) is not type(other) or not plain:
        return "its batches are not drawn from plain data"
    own, theirs = _shuffled(first), _shuffled(other)
    if own is theirs:
        return None
    if own.tensors.keys() != theirs.tensors.keys() or not all(
        torch.equal(tensor, theirs.tensors[name]) for name, tensor in own.tensors.items()
    ):
        return "their batches come from different data"
    theirs.tensors = own.tensors
    return None


def _shuffled(batches: Batches) -> Shuffled:
    """Return a stream's shuffled data: the stream itself, or the one that noise is put into."""
    own = batches.batches if isinstance(batches, WithNoise) else batches
    assert isinstance(own, Shuffled)
    return own


class Streams:
    """The batch streams of all members, drawn at once: each gives what it would give alone."""

    def __init__(self, batches: Sequence[Batches]) -> None:
        self.drawn = [own for own in batches if isinstance(own, WithNoise)]
        self.derive = self.drawn[0].derive if self.drawn else None
        self.shuffled = [_shuffled(own) for own in batches]
        self.index_NM = self._index()

    def draw(self, size: int) -> dict[str, Tensor]:
        """Return each member's next ``size`` samples, tensors of shape N, B and a sample's."""
        first = self.shuffled[0]
        if first.position + size > len(first.order):
            for own in self.shuffled:
                own.shuffle(size)
            self.index_NM = self._index()
        index_NB = self.index_NM[:, first.position : first.position + size]
        for own in self.shuffled:
            own.position += size
        return self._with(index_NB, [own.draw_random(size, own.generator) for own in self.drawn])

    def example(self, size: int) -> dict[str, Tensor]:
        """Return a batch of the shapes that ``draw`` returns, and leave the streams as they are."""
        count, device = len(self.shuffled), self.shuffled[0].device
        index_NB = torch.zeros(count, size, dtype=torch.int64, device=device)
        return self._with(
            index_NB, [own.draw_random(size, torch.Generator()) for own in self.drawn]
        )

    def _index(self) -> Tensor:
        """Return the members' orders of this epoch (N, M), on the device."""
        return onto(torch.stack([own.order for own in self.shuffled]), self.shuffled[0].device)

    def _with(self, index_NB: Tensor, random: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the samples with these indices, with what was drawn for each member's.

        Tensors of shape N, B and a sample's.
        """
        first = self.shuffled[0]
        batch = {name: tensor[index_NB] for name, tensor in first.tensors.items()}
        for name in random[0] if random else ():
            batch[name] = onto(torch.stack([own[name] for own in random]), first.device)
        return batch | vmap(self.derive)(batch) if self.derive else batch
