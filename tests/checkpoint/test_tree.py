"""What a checkpoint may hold, its plain copy and its digest."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import canonical
from torch import Tensor

from harness import checkpoint
from harness.checkpoint import CheckpointError, digest, state

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.bool),
    torch.complex64,
]


def tensor(raw: bytes, dtype: torch.dtype, shape: list[int]) -> Tensor:
    return torch.frombuffer(bytearray(raw), dtype=dtype).reshape(shape).clone()


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    size = torch.Size(shape).numel() * dtype.itemsize
    byte = st.integers(0, 1) if dtype == torch.bool else st.integers(0, 255)
    raw = bytes(draw(st.lists(byte, min_size=size, max_size=size)))
    value = tensor(raw, dtype, shape) if size else torch.empty(shape, dtype=dtype)
    return value.transpose(0, -1) if len(shape) > 1 and draw(st.booleans()) else value


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(min_size=1),
    tensors(),
)


keys = st.text(max_size=4) | st.integers()


trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
    ),
    max_leaves=8,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tree=trees)
def test_any_tree_comes_back_bit_for_bit(tree: Any, tmp_path: Path) -> None:
    path = tmp_path / "tree.pt"
    size = checkpoint.save(path, {"tree": tree})
    loaded = checkpoint.load(path)
    assert canonical(loaded) == canonical({"tree": tree})
    assert digest(loaded) == digest({"tree": tree}) == digest(checkpoint.plain({"tree": tree}))
    assert size == path.stat().st_size
    assert torch.load(path, weights_only=True)["format"] == checkpoint.FORMAT


@settings(max_examples=300, deadline=None)
@given(a=trees, b=trees)
def test_digests_are_equal_exactly_when_contents_are(a: Any, b: Any) -> None:
    assert (digest(a) == digest(b)) == (canonical(a) == canonical(b))


@settings(max_examples=100, deadline=None)
@given(value=tensors().filter(lambda t: t.numel() and t.dtype != torch.bool), data=st.data())
def test_one_bit_of_a_tensor_changes_its_digest(value: Tensor, data: st.DataObject) -> None:
    raw = bytearray(value.contiguous().reshape(-1).view(torch.uint8).tolist())
    position = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[position // 8] ^= 1 << position % 8
    assert digest(tensor(bytes(raw), value.dtype, [*value.shape])) != digest(value)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (torch.tensor(0.0), torch.tensor(-0.0)),
        (0.0, -0.0),
        (
            tensor(b"\x01\0\xc0\x7f", torch.float32, []),
            tensor(b"\x02\0\xc0\x7f", torch.float32, []),
        ),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.zeros(0, 3), torch.zeros(3, 0)),
        (torch.zeros(()), torch.zeros(1)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
        (torch.zeros(2, dtype=torch.float16), torch.zeros(2, dtype=torch.bfloat16)),
        (1, True),
        (1, 1.0),
        ("1", b"1"),
        ("1", 1),
        (None, "None"),
        ([1, 2], (1, 2)),
        ([[1], 2], [[1, 2]]),
        (["ab", "c"], ["a", "bc"]),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        ({1: "a"}, {"1": "a"}),
    ],
)
def test_digest_tells_apart(a: object, b: object) -> None:
    assert digest(a) != digest(b)
    assert digest([a]) == digest([a])


def test_digest_ignores_order_strides_and_conjugate_views() -> None:
    assert (
        digest({"a": 1, 2: [3]}) == digest({2: [3], "a": 1}) == digest(OrderedDict(a=1) | {2: [3]})
    )
    grid = torch.arange(6).reshape(2, 3)
    assert digest(grid.t()) == digest(grid.t().contiguous()) != digest(grid)
    assert digest(grid[:, 1]) == digest(torch.tensor([1, 4]))
    z = torch.tensor([1 + 2j])
    assert digest(z.conj()) == digest(torch.tensor([1 - 2j])) != digest(z)


def test_numpy_floats_become_plain_and_arrays_are_refused(tmp_path: Path) -> None:
    import numpy as np

    content = state.snapshot({}, {}, {}, best=np.float64(0.5), size=torch.ones(2, 3).shape)
    assert type(content["best"]) is float and type(content["size"]) is tuple
    checkpoint.save(tmp_path / "ok.pt", content)
    with pytest.raises(CheckpointError, match="numpy.float64 has no place"):
        checkpoint.save(tmp_path / "no.pt", {"best": np.float64(0.5)})
    with pytest.raises(CheckpointError, match="numpy.ndarray has no place"):
        checkpoint.save(tmp_path / "no.pt", {"array": np.ones(2)})


def test_a_view_saves_its_own_elements_only(tmp_path: Path) -> None:
    part = checkpoint.plain(torch.zeros(1000, 1000)[:, 3])
    assert checkpoint.save(tmp_path / "part.pt", {"part": part}) < 10_000
