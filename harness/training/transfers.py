"""Copy tensors to a GPU, which works on meanwhile; several in one copy, also back; draw ahead."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

ALIGNED = 16  # bytes: a part of a copy begins where any type may
BLOCK_BYTES = 2**25  # at most, of what is drawn ahead


def onto(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to the CPU, or from there to a GPU, which goes on meanwhile: it is pinned."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def together(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return named tensors on a device; those that are not there yet go in a single copy.

    To a GPU as ``onto`` copies; the CPU waits for what comes back.
    """
    going = {name: t for name, t in tensors.items() if t.device.type != device.type}
    if not going:
        return {name: tensor.to(device) for name, tensor in tensors.items()}
    parts = [tensor.contiguous().flatten().view(torch.uint8) for tensor in going.values()]
    padded = [F.pad(part, (0, -len(part) % ALIGNED)) for part in parts]
    there = onto(torch.cat(padded), device).split([len(part) for part in padded])
    arrived = {
        name: part[: tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        for (name, tensor), part in zip(going.items(), there, strict=True)
    }
    return tensors | arrived


class Copied:
    """A tensor's copy on a device, made anew only for another tensor than the last."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return the copy of a tensor from the CPU that nothing changes in place."""
        if self._last is None or self._last[0] is not tensor:
            self._last = tensor, onto(tensor, self._device)
        return self._last[1]


class Ahead:
    """Each step's random tensors, drawn on the CPU; for a GPU many steps' at once, in one copy.

    draw: makes a step's tensors from a batch size and from how many steps after the next one it is;
    all its randomness comes from ``generator``. Numbers and the generator's state after every step
    are those of drawing step by step: a block is drawn by the same calls, and the state kept that
    each of them leaves. If the generator is found elsewhere than a step left it, something else
    draws too: the block is dropped, and no other drawn. On the CPU nothing is drawn ahead.
    """

    def __init__(
        self,
        draw: Callable[[int, int], dict[str, Tensor]],
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.draw, self.generator, self.device = draw, generator, device
        self.forget()

    def forget(self) -> None:
        """Drop what was drawn ahead: something else than the generator decides it anew."""
        self._block: dict[str, Tensor] = {}
        self._states: list[Tensor] = []  # of the generator, before each step and after the last
        self._next = self._size = 0
        self._alone = True  # nothing else was seen to move the generator

    def next(self, size: int, steps: int) -> dict[str, Tensor]:
        """Return the next step's tensors, on the device.

        size: samples in a batch. steps: how many at most can be drawn by now, this one included.
        """
        if self.device.type != "cuda":
            return self.draw(size, 0)
        used_up = self._size != size or self._next + 1 >= len(self._states)
        if not used_up and not torch.equal(self.generator.get_state(), self._states[self._next]):
            self._alone, used_up = False, True
        if used_up:
            self._fill(size, steps if self._alone else 1)
        found = {name: tensor[self._next] for name, tensor in self._block.items()}
        self._next += 1
        self.generator.set_state(self._states[self._next])
        return found

    def _fill(self, size: int, steps: int) -> None:
        """Draw a block of the next steps, as many as BLOCK_BYTES hold."""
        drawn: list[dict[str, Tensor]] = []
        states, bytes_of_one = [self.generator.get_state()], 0
        while len(drawn) < steps and (len(drawn) + 1) * bytes_of_one <= BLOCK_BYTES:
            drawn.append(self.draw(size, len(drawn)))
            states.append(self.generator.get_state())
            bytes_of_one = sum(tensor.nbytes for tensor in drawn[0].values())
        stacked = {name: torch.stack([one[name] for one in drawn]) for name in drawn[0]}
        self._block = together(stacked, self.device)
        self._states, self._next, self._size = states, 0, size
