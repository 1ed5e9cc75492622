"""Checkpoints: what was saved comes back bit for bit, or not at all and nothing has changed."""

import os
import pickle
import resource
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn, optim
from torch.optim import lr_scheduler as lrs

from harness import checkpoint
from harness.checkpoint import CheckpointError, digest, state

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda parameters: optim.SGD(parameters, 0.1, momentum=0.9),
    "adam": lambda parameters: optim.Adam(parameters, 0.01),
    "rmsprop": lambda parameters: optim.RMSprop(parameters, 0.01, momentum=0.5),
}
SCHEDULES: dict[str, Callable[[optim.Optimizer], Any]] = {
    "constant": lambda o: lrs.ConstantLR(o, factor=0.5, total_iters=6),
    "multistep": lambda o: lrs.MultiStepLR(o, [3, 6, 6, 8]),
    "exponential": lambda o: lrs.ExponentialLR(o, 0.9),
    "cosine": lambda o: lrs.CosineAnnealingLR(o, 12),
    "plateau": lambda o: lrs.ReduceLROnPlateau(o, factor=0.5, patience=1),
    "sequential": lambda o: lrs.SequentialLR(
        o, [lrs.LinearLR(o, total_iters=4), lrs.CosineAnnealingLR(o, 8)], [4]
    ),
    "onecycle": lambda o: lrs.OneCycleLR(o, 0.1, 13, cycle_momentum=False),
    "onecycle_momentum": lambda o: lrs.OneCycleLR(o, 0.1, 13),
}
DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.bool),
    torch.complex64,
]


class Net(nn.Module):
    """A body with batch norm (a float32 and an int64 buffer) and a head of ``classes``."""

    def __init__(self, seed: int = 0, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
        self.head = nn.Linear(5, classes)
        self.head2 = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.body(x)
        return self.head(hidden).square().mean() + self.head2(hidden).sin().mean()


class Run:
    """A small training. Its batches depend on the step alone; all parts share one name."""

    def __init__(self, opt: str = "adam", schedule: str = "cosine", seed: int = 0) -> None:
        self.network = Net(seed)
        self.optimizer = OPTIMIZERS[opt](self.network.parameters())
        self.schedule = SCHEDULES[schedule](self.optimizer)
        self.parts: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = (
            {"model": self.network},
            {"model": self.optimizer},
            {"model": self.schedule},
        )

    def train(self, start: int, end: int) -> "Run":
        for step in range(start, end):
            x = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
            self.optimizer.zero_grad()
            self.network(x).backward()
            self.optimizer.step()
            if isinstance(self.schedule, lrs.ReduceLROnPlateau):
                self.schedule.step(float((step * 7) % 5))
            else:
                self.schedule.step()
        return self

    def state_dict(self, **rest: Any) -> dict[str, Any]:
        return state.snapshot(*self.parts, **rest)

    def digest(self) -> str:
        return digest(self.state_dict())


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


def canonical(value: Any) -> Any:
    """The same content as a Python value that ``==`` compares bit for bit."""
    if isinstance(value, Tensor):
        raw = value.contiguous().reshape(-1).view(torch.uint8).tolist() if value.numel() else []
        return ("tensor", str(value.dtype), tuple(value.shape), tuple(raw))
    if isinstance(value, dict):
        return ("dict", frozenset((canonical(k), canonical(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return (type(value).__name__, tuple(map(canonical, value)))
    return (type(value).__name__, pickle.dumps(value, 2) if type(value) is float else value)


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_device_does_not_count() -> None:
    value = torch.randn(5, 3)
    assert digest(value.cuda()) == digest(value)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("opt", OPTIMIZERS)
def test_resumed_training_equals_the_uninterrupted(opt: str, schedule: str, tmp_path: Path) -> None:
    whole = Run(opt, schedule).train(0, 5)
    path = tmp_path / "middle.pt"
    content = whole.state_dict(step=5)
    before = digest(content)
    checkpoint.save(path, content)
    whole.train(5, 12)
    assert digest(content) == before, "training went on in the snapshot"

    loaded = checkpoint.load(path)
    assert digest(loaded) == before
    resumed = Run(opt, schedule, seed=1)
    assert resumed.digest() != before
    state.restore(loaded, *resumed.parts)
    assert digest(resumed.state_dict(step=5)) == before
    assert resumed.train(5, 12).digest() == whole.digest()
    assert digest(loaded) == before, "training went on in what was loaded"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run.pt"
    checkpoint.save(path, Run("adam", "multistep").train(0, 2).state_dict(note="ä", raw=b"\xff"))
    return path


def test_a_flipped_bit_is_found_or_changes_nothing(saved: Path) -> None:
    raw = saved.read_bytes()
    expected = canonical(checkpoint.load(saved))
    refused = 0
    for position in range(0, len(raw), max(1, len(raw) // 400)):
        damaged = bytearray(raw)
        damaged[position] ^= 1 << position % 8
        saved.write_bytes(damaged)
        try:
            content = checkpoint.load(saved)
        except CheckpointError:
            refused += 1
        else:
            assert canonical(content) == expected, position
    assert refused > 50


def test_every_flip_inside_a_tensor_is_found(tmp_path: Path) -> None:
    path = tmp_path / "one.pt"
    weights = torch.arange(64, dtype=torch.float32) + 0.5
    checkpoint.save(path, {"w": weights})
    raw = path.read_bytes()
    start = raw.index(weights.numpy().tobytes())
    for bit in range(0, 64 * 32, 7):
        damaged = bytearray(raw)
        damaged[start + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.load(path)


def test_every_truncation_is_refused(saved: Path) -> None:
    raw = saved.read_bytes()
    for length in [*range(0, len(raw), max(1, len(raw) // 150)), len(raw) - 1]:
        saved.write_bytes(raw[:length])
        with pytest.raises(CheckpointError, match=saved.name):
            checkpoint.load(saved)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 4096,
        b"step,loss\n1,0.5\n",
        b"<!DOCTYPE html><html></html>",
        b"PK\x03\x04",
        b"\x80",
    ],
    ids=["empty", "zeros", "text", "html", "zip_start", "pickle_start"],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.pt"
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="bad.pt") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pt", tmp_path):
        said = f"{path.name}(: there is no such file| is no checkpoint)"
        with pytest.raises(CheckpointError, match=said):
            checkpoint.load(path)


@pytest.mark.parametrize(
    "content",
    [nn.Linear(2, 2).state_dict(), [1, 2], torch.zeros(3), {"format": "other", "version": 2}],
    ids=["state_dict", "list", "tensor", "other_format"],
)
def test_other_peoples_files_are_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="is no decathlon-checkpoint"):
        checkpoint.load(path)


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("how", ["pickle", "torch", "legacy", "replaced"])
def test_a_malicious_pickle_is_refused_and_not_run(how: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.pt"
    content = {"format": checkpoint.FORMAT, "version": 2, "evil": Malicious(marker)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content, 2))
    elif how == "replaced":  # the pickle inside a good checkpoint
        good = tmp_path / "good.pt"
        checkpoint.save(good, {"w": torch.ones(2)})
        with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                new.writestr(
                    name, pickle.dumps(content, 2) if name.endswith("/data.pkl") else old.read(name)
                )
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(CheckpointError, match="evil.pt"):
        checkpoint.load(path)
    assert not marker.exists()
    if how in ("torch", "legacy"):  # it would have been run
        torch.load(path, weights_only=False)
        assert marker.exists()


def seal(path: Path, content: dict[str, Any], version: object) -> None:
    body = {**content, "format": checkpoint.FORMAT, "version": version}
    torch.save({**body, "sha256": digest(body)}, path)


def test_version_1_is_migrated(tmp_path: Path) -> None:
    path, old = tmp_path / "old.pt", Net(3)
    model = checkpoint.plain(old.state_dict())
    seal(path, {"model": model, "cell": "a/b"}, 1)
    content = checkpoint.load(path)
    assert digest(content) == digest({"networks": {"model": model}, "cell": "a/b"})
    network = Net(4)
    state.restore(content, {"model": network}, {}, {})
    assert digest(network.state_dict()) == digest(model)
    seal(path, {"weights": model}, 1)
    with pytest.raises(CheckpointError, match="old.pt is no whole version 1"):
        checkpoint.load(path)


@pytest.mark.parametrize("version", [99, checkpoint.VERSION + 1, 0, -1, "2", None, 2.0])
def test_other_versions_are_refused(version: object, tmp_path: Path) -> None:
    path = tmp_path / "new.pt"
    seal(path, {"networks": {}}, version)
    with pytest.raises(CheckpointError, match="new.pt has version"):
        checkpoint.load(path)


def test_a_version_cannot_be_changed_behind_the_seal(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    checkpoint.save(path, {"model": {"w": torch.ones(2)}})
    torch.save({**torch.load(path, weights_only=True), "version": 1}, path)
    with pytest.raises(CheckpointError, match="SHA-256"):
        checkpoint.load(path)


def replace_fails(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_failed_save_keeps_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()
    sparse = torch.ones(2).to_sparse()
    values: list[object] = [lambda: 0, defaultdict(int), {1, 2}, torch.nn, 1j, b"", sparse]
    for value in values:
        with pytest.raises(CheckpointError, match=r"run.pt was not saved: TypeError"):
            checkpoint.save(saved, {"tensor": torch.ones(9), "value": value})
    with pytest.raises(CheckpointError, match="version"):
        checkpoint.save(saved, {"version": 3})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_fails)
        with pytest.raises(CheckpointError, match="No space left"):
            checkpoint.save(saved, {"tensor": torch.ones(9)})
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_disk_that_takes_no_more_keeps_the_old_file(saved: Path) -> None:
    before = saved.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match="was not saved"):
            checkpoint.save(saved, {"tensor": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_save_makes_the_folder_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.pt"
    for value in (1, 2):
        checkpoint.save(path, {"value": value})
        assert checkpoint.load(path) == {"value": value}
    assert os.listdir(path.parent) == [path.name]


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


Spoil = Callable[[dict[str, Any]], object]


def at(content: dict[str, Any], part: str) -> Any:
    return content[part]["model"]["state"]


SPOILT: dict[str, tuple[Spoil, str]] = {
    "no_networks": (lambda c: c.pop("networks"), "networks"),
    "other_network": (lambda c: c["networks"].update(ghost={}), "ghost"),
    "tensor_missing": (lambda c: c["networks"]["model"].pop("head.bias"), "missing head.bias"),
    "tensor_unexpected": (
        lambda c: c["networks"]["model"].update(extra=torch.ones(1)),
        "unexpected extra",
    ),
    # the last tensor: all the others come before it, and fit
    "tensor_shape": (
        lambda c: c["networks"]["model"].update({"head2.bias": torch.ones(7)}),
        r"reshaped head2.bias \(\[7\] float32 saved, \[2\] float32 here\)",
    ),
    "tensor_dtype": (
        lambda c: c["networks"]["model"].update({"head2.bias": torch.ones(2).double()}),
        r"\[2\] float64 saved",
    ),
    "no_tensor": (lambda c: c["networks"]["model"].update({"head2.bias": 3}), "int saved"),
    "network_is_a_number": (lambda c: c["networks"].update(model=3), "not what snapshot makes"),
    "optimizer_kind": (lambda c: c["optimizers"]["model"].update(kind="SGD"), "SGD, here is Adam"),
    "optimizer_name": (lambda c: c["optimizers"].update(x=c["optimizers"].pop("model")), "'x'"),
    "optimizer_incomplete": (lambda c: c["optimizers"]["model"].pop("state"), "not what snapshot"),
    "no_groups": (lambda c: at(c, "optimizers")["param_groups"].clear(), "groups of"),
    "parameters": (
        lambda c: at(c, "optimizers")["param_groups"][0]["params"].pop(),
        "groups of",
    ),
    "state_shape": (
        lambda c: at(c, "optimizers")["state"][7].update(exp_avg=torch.ones(9)),
        "exp_avg of parameter 7",
    ),
    "state_dtype": (
        lambda c: at(c, "optimizers")["state"][7].update(exp_avg=torch.ones(2).half()),
        "exp_avg of parameter 7",
    ),
    "state_scalar": (
        lambda c: at(c, "optimizers")["state"][7].update(exp_avg_sq=torch.tensor(1.0)),
        "exp_avg_sq of parameter 7",
    ),
    "step_shape": (
        lambda c: at(c, "optimizers")["state"][7].update(step=torch.ones(3)),
        "step of parameter 7",
    ),
    "state_of_nothing": (
        lambda c: at(c, "optimizers")["state"].update({99: {"exp_avg": torch.ones(2)}}),
        "99",
    ),
    "schedule_kind": (
        lambda c: c["schedules"]["model"].update(kind="StepLR"),
        r"StepLR, here is SequentialLR\(LinearLR, CosineAnnealingLR\)",
    ),
    "schedule_nested_kind": (
        lambda c: c["schedules"]["model"].update(kind="SequentialLR(LinearLR, ExponentialLR)"),
        "ExponentialLR",
    ),
    "schedule_state": (lambda c: at(c, "schedules").pop("last_epoch"), "lacks .'last_epoch'"),
    "schedule_nested_state": (
        lambda c: at(c, "schedules")["_schedulers"][1].pop("T_max"),
        "lacks .'T_max'",
    ),
    "schedule_nested_count": (lambda c: at(c, "schedules")["_schedulers"].pop(), "not what snap"),
    "no_schedules": (lambda c: c["schedules"].clear(), "schedules"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_does_not_fit_is_refused_and_changes_nothing(case: str) -> None:
    spoil, message = SPOILT[case]
    content = Run("adam", "sequential").train(0, 4).state_dict()
    spoil(content)
    run = Run("adam", "sequential", seed=1).train(0, 2)
    before = run.digest()
    for action in (state.validate, state.restore):
        with pytest.raises(CheckpointError, match=message):
            action(content, *run.parts)
        assert run.digest() == before


@pytest.mark.parametrize(
    ("opt", "schedule"),
    [("sgd", "sequential"), ("rmsprop", "sequential"), ("adam", "cosine"), ("adam", "onecycle")],
)
def test_the_wrong_classes_are_refused(opt: str, schedule: str) -> None:
    content = Run("adam", "sequential").train(0, 4).state_dict()
    run = Run(opt, schedule, seed=1).train(0, 2)
    before = run.digest()
    with pytest.raises(CheckpointError, match="the checkpoint holds"):
        state.restore(content, *run.parts)
    assert run.digest() == before


def test_validate_accepts_what_fits_and_changes_nothing() -> None:
    content = Run("adam", "sequential").train(0, 4).state_dict()
    run = Run("adam", "sequential", seed=1)
    before, expected = run.digest(), digest(content)
    state.validate(content, *run.parts)
    assert run.digest() == before != expected
    state.restore(content, *run.parts)
    assert run.digest() == expected


def test_a_failing_strict_load_changes_nothing() -> None:
    network = Net(1, classes=10)
    before = digest(network.state_dict())
    with pytest.raises(CheckpointError, match="reshaped head.weight"):
        checkpoint.load_network(network, checkpoint.plain(Net(0).state_dict()))
    assert digest(network.state_dict()) == before


def test_a_loose_load_into_a_changed_head_takes_the_rest() -> None:
    network, saved = Net(1, classes=10), checkpoint.plain(Net(0).state_dict())
    saved["old.weight"] = torch.ones(2)
    del saved["body.0.bias"]
    before = checkpoint.plain(network.state_dict())
    expected = checkpoint.Mismatch(
        missing=("body.0.bias",),
        unexpected=("old.weight",),
        reshaped=(
            "head.weight ([3, 5] float32 saved, [10, 5] float32 here)",
            "head.bias ([3] float32 saved, [10] float32 here)",
        ),
    )
    assert checkpoint.compare(network, saved) == expected
    assert digest(network.state_dict()) == digest(before)
    assert checkpoint.load_network(network, saved, strict=False) == expected
    kept = {"body.0.bias", "head.weight", "head.bias"}
    after = {name: before[name] if name in kept else saved[name] for name in before}
    assert digest(network.state_dict()) == digest(after) != digest(before)
    assert "missing body.0.bias; unexpected old.weight; reshaped head.weight" in str(expected)


def test_no_difference_is_false_and_copied() -> None:
    source, network = Net(0), Net(1)
    mismatch = checkpoint.load_network(network, checkpoint.plain(source.state_dict()))
    assert not mismatch and str(mismatch) == "no difference"
    assert digest(network.state_dict()) == digest(source.state_dict())
    assert network.head.weight.data_ptr() != source.head.weight.data_ptr()


@pytest.mark.parametrize("prefix", ["head", "head."])
@pytest.mark.parametrize("whole", [False, True])
def test_a_part_is_saved_and_loaded_alone(prefix: str, whole: bool, tmp_path: Path) -> None:
    source, network = Net(0), Net(1)
    part = checkpoint.plain(source.state_dict()) if whole else checkpoint.partial(source, prefix)
    assert whole or set(part) == {"head.weight", "head.bias"}, "head2 is another module"
    checkpoint.save(tmp_path / "part.pt", {"networks": {"model": part}})
    loaded = checkpoint.load(tmp_path / "part.pt")["networks"]["model"]
    before = checkpoint.plain(network.state_dict())
    assert not checkpoint.load_network(network, loaded, prefix=prefix)
    taken = checkpoint.partial(source, prefix)
    assert digest(network.state_dict()) == digest(before | taken) != digest(before)


def test_a_part_is_checked_too() -> None:
    network, source = Net(1, classes=10), Net(0)
    before = digest(network.state_dict())
    with pytest.raises(CheckpointError, match="reshaped head.weight"):
        checkpoint.load_network(network, checkpoint.partial(source, "head"), prefix="head")
    with pytest.raises(CheckpointError, match="missing body"):
        checkpoint.load_network(network, checkpoint.partial(source, "head2"))
    for prefix in ("hea", "neck"):
        with pytest.raises(CheckpointError, match="no tensor below"):
            checkpoint.partial(source, prefix)
        with pytest.raises(CheckpointError, match="no tensor below"):
            checkpoint.load_network(network, dict(source.state_dict()), prefix=prefix)
    assert digest(network.state_dict()) == before
