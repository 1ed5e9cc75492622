"""DataParallel for networks that return scalars: the mean of what equal shares of a batch give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DataParallel
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from harness.cell import UsageError


class Replicas(DataParallel):
    """torch's DataParallel, but for scalars: torch returns a vector of them, one value a GPU.

    A scalar that a network returns of a batch, such as its loss, is the mean of its replicas', as
    under DistributedDataParallel: that of the whole batch if it is a mean over samples.
    """

    sizes: tuple[int, ...] = ()  # samples of each share

    def scatter(
        self,
        inputs: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        device_ids: Sequence[int | torch.device],
    ) -> Any:
        shares = super().scatter(inputs, kwargs, device_ids)
        given = [
            [x for x in tree_leaves(share) if _has_samples(x)]
            for share in zip(*shares, strict=True)
        ]
        self.sizes = tuple(len(tensors[0]) for tensors in given if tensors)
        return shares

    def gather(self, outputs: Sequence[Any], output_device: int | torch.device) -> Any:
        """Return the replicas' outputs as those of one network.

        Raises UsageError if a floating-point scalar is among them and the shares are not equal.
        """
        flat = [tree_leaves(output) for output in outputs]
        _, spec = tree_flatten(outputs[0])
        joined = [self._joined(values, output_device) for values in zip(*flat, strict=True)]
        return tree_unflatten(joined, spec)

    def _joined(self, values: Sequence[Any], output_device: int | torch.device) -> Any:
        """Return what the replicas return in one place of their outputs as one value."""
        first = values[0]
        if not isinstance(first, Tensor):
            plain = first is None or isinstance(first, str | bool | int | float)
            return first if plain else super().gather(values, output_device)
        if first.dim() or not first.is_floating_point():
            return super().gather(values, output_device)
        _check_equal(self.sizes)
        return super().gather([value[None] for value in values], output_device).mean()


def mean_over_gpus(loss: Tensor, batch_size: int, gpus: int) -> Tensor:
    """Return a loss of one value a GPU, as dp may leave it, as their mean; any other as it is.

    Raises UsageError if the GPUs' shares of the batch are not equal.
    """
    shares = [len(share) for share in torch.arange(batch_size).chunk(gpus)]
    if loss.numel() <= 1 or loss.shape != (len(shares),):
        return loss
    _check_equal(shares)
    return loss.mean()


def _check_equal(sizes: Sequence[int]) -> None:
    """Raise UsageError if the shares of a batch, whose means are averaged, are not equal."""
    if len(set(sizes)) > 1:
        raise UsageError(
            f"dp averages what {len(sizes)} GPUs return of their shares, which are not equal "
            f"({', '.join(map(str, sizes))} samples): choose a batch size that {len(sizes)} divides"
        )


def _has_samples(value: object) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0
