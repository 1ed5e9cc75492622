"""Read a Dataset's samples one by one, each under a seed of its own.

Shapes: B rows read.
"""

from __future__ import annotations

import copy
import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from harness.axes import parallel
from harness.cell import UsageError
from harness.sources import is_librarys
from harness.topics.supervised.given import Given
from harness.topics.supervised.pairs import Pair, as_array, pair, refuse_odd
from harness.training.batches import Batches, Shuffled
from harness.training.transfers import onto

KINDS = "a pair x, y of tensors or arrays, or a Dataset of such pairs"
SEEDS = 2**32  # NumPy's largest


@dataclass(frozen=True, eq=False)
class Items:
    """Samples that a Dataset gives one by one, put together by ``collate`` as a DataLoader does.

    Its random numbers (augmentation) come from torch's, NumPy's and Python's global generators.
    These are seeded for each sample, so that what a sample becomes depends neither on the rank that
    reads it nor on what was read before, and restored afterwards.
    """

    what: str
    dataset: Any
    collate: Callable[[list[Any]], Any]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, row_B: Tensor, seed_B: Tensor) -> tuple[Tensor, np.ndarray]:
        """Return the samples at these rows, each read under its seed. Raises UsageError."""
        with _kept():
            items = []
            for row, seed in zip(row_B.tolist(), seed_B.tolist(), strict=True):
                _seed(seed)
                items.append(self._item(row))
            try:
                batch = self.collate(items)
            except Exception as error:
                given = f"{len(items)} items" if len(items) > 1 else f"item {row_B[0]} alone"
                failed = f"collate fails on {given} (it must keep each item)"
                if self.collate is default_collate:
                    failed = "its items cannot be collated"
                raise UsageError(f"{self.what}: {failed}: {_line(error)}") from error
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise UsageError(f"{self.what}: collate gives {_told(batch)}: a pair x, y is needed")
        x_B, y_B = batch
        if not isinstance(x_B, Tensor) or len(x_B) != len(row_B):
            raise UsageError(
                f"{self.what}: {len(row_B)} items become x = {_told(x_B)}: one tensor is needed, "
                "samples along its first dimension (transforms.ToTensor() makes one of an image)"
            )
        refuse_odd(f"{self.what}: x of its items", x_B)
        array_B = as_array(f"{self.what}: y of its items", y_B)
        if array_B.shape[:1] != (len(row_B),):
            raise UsageError(
                f"{self.what}: its items collate to y = {_told(y_B)}: one label or number a sample "
                "is needed, as in (x, label)"
            )
        return x_B.float() if x_B.dtype == torch.float64 else x_B, array_B

    def _item(self, row: int) -> Any:
        try:
            item = self.dataset[row]
        except Exception as error:
            raise UsageError(f"{self.what}: item {row} cannot be read: {_line(error)}") from error
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise UsageError(f"{self.what}: item {row} is {_told(item)}: a pair x, y is needed")
        for name, part in zip("xy", item, strict=True):
            refuse_odd(f"{self.what}: {name} of item {row}", part)
        return item


class Read(Batches):
    """An endless stream of batches of samples that are read when they are drawn, shuffled anew each
    epoch, without incomplete batches.

    rows: the indices of those that are drawn. encode: makes a target tensor of what was read as y.
    The order and the seeds of all samples come from ``generator``; a rank reads its share only.
    """

    def __init__(
        self,
        samples: Items,
        encode: Callable[[Any], Tensor],
        generator: torch.Generator,
        device: torch.device,
        rows: Tensor,
    ) -> None:
        self.samples, self.encode, self.device = samples, encode, device
        self.generator = generator
        every = {"row": torch.arange(len(samples))}
        self.order = Shuffled(every, generator, torch.device("cpu"), rows)

    def draw(self, size: int) -> dict[str, Tensor]:
        return self.draw_share(size, 0, 1)

    def draw_share(self, size: int, rank: int, ranks: int) -> dict[str, Tensor]:
        drawn = self.order.draw(size)
        drawn["seed"] = torch.randint(SEEDS, (size,), generator=self.generator)
        own = parallel.shard(drawn, rank, ranks)
        x_B, y_B = self.samples.read(own["row"], own["seed"])
        return {"x": onto(x_B, self.device), "y": onto(self.encode(y_B), self.device)}

    def state_dict(self) -> dict[str, Any]:
        return self.order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.order.load_state_dict(state)


def opened(what: str, given: Given, collate: Given | None) -> Pair | Items:
    """Return the samples that a user gave as ``what``, or that the function given returns.

    Raises UsageError for what is neither a pair nor a map-style Dataset, and for a pair that makes
    no sense.
    """
    value = given.value
    if given.is_function:
        try:
            with _kept():
                _seed(0)
                value = value()
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(f"{what}: {given.name} fails: {_line(error)}") from error
        what = f"{what} ({given.name})"
    if isinstance(value, TensorDataset) and len(value.tensors) == 2 and collate is None:
        return pair(what, *value.tensors)
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], list):
        value = (value[0], as_array(f"{what}: y", value[1]))
    if isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_array, value)):
        return pair(what, *value)
    if isinstance(value, tuple) and len(value) == 2:
        odd = "y" if _is_array(value[0]) else "x"
        raise UsageError(f"{what}: {odd} is {_told(value['xy'.index(odd)])}: {KINDS} is needed")
    if isinstance(value, tuple):
        hint = " (give test= apart)" if len(value) == 4 else ""
        raise UsageError(f"{what} is {_told(value)}: {KINDS} is needed{hint}")
    if isinstance(value, DataLoader):
        raise UsageError(
            f"{what} is a DataLoader: give its dataset, and its collate_fn as collate="
        )
    has_length = hasattr(type(value), "__len__") and hasattr(type(value), "__getitem__")
    if isinstance(value, IterableDataset) or (isinstance(value, Dataset) and not has_length):
        raise UsageError(
            f"{what} is a {type(value).__name__}, which has no length or cannot be indexed: a "
            "map-style Dataset is needed (__len__ and __getitem__)"
        )
    if not has_length or isinstance(value, str | bytes | dict) or _is_array(value):
        raise UsageError(f"{what} is {_told(value)}: {KINDS} is needed")
    if len(value) == 0:
        raise UsageError(f"{what} is empty: it has no samples")
    return Items(what, _copy(value, {}), collate.value if collate else default_collate)


def _copy(dataset: Any, made: dict[int, Any]) -> Any:
    """Return a copy of a Dataset to read from, with those inside it, as of a Subset.

    One that opens its file at the first item would else hold it when it is sent to a process. made:
    the copies so far by the id of what they are of, for those that hold each other.
    """
    if id(dataset) in made:
        return made[id(dataset)]
    try:
        found = copy.copy(dataset)
    except Exception:  # of any class's own making: it is read itself
        return dataset
    made[id(dataset)] = found
    for name, inner in getattr(found, "__dict__", {}).items():
        if isinstance(inner, Dataset):
            found.__dict__[name] = _copy(inner, made)
        elif isinstance(inner, list) and inner and isinstance(inner[0], Dataset):
            found.__dict__[name] = [_copy(one, made) for one in inner]
    return found


def _seed(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (CPU); a GPU's are left alone."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)


@contextmanager
def _kept() -> Iterator[None]:
    """Restore the global generators of Python, NumPy and torch (CPU) after the block."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def _is_array(value: object) -> bool:
    return isinstance(value, Tensor) or (hasattr(value, "__array__") and np.ndim(value) > 0)


def _told(value: Any) -> str:
    """Return what a value is, in a few words, and what makes an array of it if that is known."""
    if isinstance(value, Tensor | np.ndarray):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return f"a {type(value).__name__} of {len(value)}"
    hint = " (give its toarray())" if hasattr(value, "toarray") else ""
    return f"a {type(value).__name__}{hint}"


def _line(error: Exception) -> str:
    """Return an error as one line, with the last place in the project's own code, if any."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith("<") and not is_librarys(f.filename)]
    where = f" ({Path(own[-1].filename).name}:{own[-1].lineno} in {own[-1].name})" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{where}"
