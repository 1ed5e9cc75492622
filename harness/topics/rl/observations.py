"""How observations of every kind that Gymnasium knows become arrays that a network takes."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import torch
from gymnasium import spaces

from harness.cell import UsageError

LONGEST = 10_000  # numbers to which discrete parts may be flattened
SMALLEST = 3  # pixels of an image's shorter side, as the convolution needs
ALLOWED = "a Box, Discrete, MultiDiscrete or MultiBinary, or a Tuple or Dict of those"


@dataclass(frozen=True)
class Observed:
    """How an environment's observations are taken.

    shape: of one array, and the type it is kept in. scale: what the network divides it by. channels
    of an image: ``first`` or ``last`` dimension, or ``none`` for height and width alone; empty for
    a vector. flat: whether Gymnasium's FlattenObservation makes the array, discrete parts one-hot.
    note: what of this a person should know, as a sentence; empty for a plain vector of numbers.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    scale: float = 1.0
    channels: str = ""
    flat: bool = False
    note: str = ""


def observed(space: spaces.Space) -> Observed:
    """Return how observations of a space are taken. Raises UsageError if they cannot be."""
    if isinstance(space, spaces.Box) and space.shape:
        return _box(space)
    parts = list(_parts(space))
    if images := [part for part in parts if isinstance(part, spaces.Box) and part.shape[1:]]:
        raise UsageError(f"{_short(images[0])} as a part of {_short(space)}: images come alone")
    size = spaces.flatdim(space)
    if size > LONGEST:
        raise UsageError(f"{_short(space)} is {size} numbers one-hot: {LONGEST} at most")
    bits = not any(isinstance(part, spaces.Box) for part in parts)
    how = f"one-hot, as {size} numbers"
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        how = "one number" if size == 1 else f"{size} numbers"
    elif not bits:
        how = f"{size} numbers, discrete parts one-hot"
    note = f"observations {_short(space)} are taken as {how}".replace("as one-hot", "one-hot")
    return Observed((size,), torch.uint8 if bits else torch.float32, flat=True, note=note)


def _parts(space: spaces.Space) -> list[spaces.Space]:
    """Return the simple spaces of which a space is made. Raises UsageError for other kinds."""
    if isinstance(space, spaces.Tuple):
        return [part for one in space.spaces for part in _parts(one)]
    if isinstance(space, spaces.Dict):
        return [part for one in space.spaces.values() for part in _parts(one)]
    known = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    if not isinstance(space, known):
        raise UsageError(f"{_short(space)} is no array: {ALLOWED} is taken")
    return [space]


def _box(space: spaces.Box) -> Observed:
    """Return how an array is taken: as an image if it looks like one, else as a vector."""
    shape, bytes_ = space.shape, space.dtype == "uint8"
    scale = float(space.high.max()) if bytes_ else 1.0
    channels = _channels(shape, bytes_)
    if channels == "none":
        how = ["images of one channel"]
    elif channels:
        how = [f"images, channels {channels}"]
    else:
        how = ["vectors"] if len(shape) > 1 or bytes_ else []
    if bytes_:
        how.append(f"kept as bytes and divided by {scale:g}")
    note = f"observations of {'x'.join(map(str, shape))} {space.dtype} are taken as "
    return Observed(
        shape,
        torch.uint8 if bytes_ else torch.float32,
        scale or 1.0,
        channels,
        note=note + ", ".join(how) if how else "",
    )


def _channels(shape: tuple[int, ...], bytes_: bool) -> str:
    """Guess which dimension of an array holds an image's channels; empty for no image.

    Images are mostly square; else there are fewer channels than rows or columns. Where nothing
    tells, channels are last, as MinAtar's (Young & Tian 2019). Without channels only bytes are an
    image: a table of numbers has two dimensions too.
    """
    if len(shape) == 2:
        return "none" if bytes_ and min(shape) >= SMALLEST else ""
    if len(shape) != 3:
        return ""
    first, middle, last = shape
    if (middle == last) != (first == middle):
        found = "first" if middle == last else "last"
    else:
        found = "first" if first < last else "last"
    sides = shape[1:] if found == "first" else shape[:2]
    return found if min(sides) >= SMALLEST else ""


def _short(space: spaces.Space) -> str:
    """Return a space as text of one line."""
    text = " ".join(str(space).split())
    return text if len(text) <= 80 else textwrap.shorten(text, 80, placeholder=" ...")
