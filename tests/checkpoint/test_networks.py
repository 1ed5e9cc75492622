"""A network against its saved state: strictly, loosely and in part."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small import Net

from harness import checkpoint
from harness.axes import parallel
from harness.checkpoint import CheckpointError, digest, state


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


def compiled_inside(network: Net) -> Net:
    network.body = torch.compile(network.body)  # type: ignore[assignment]
    return network


class Wrapped(torch.nn.Module):
    """A module as DDP and DataParallel wrap it: under the name ``module``."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.module = network


WRAPPERS = {
    "compiled": torch.compile,
    "inside": compiled_inside,
    "ddp": Wrapped,
    "parallel": torch.nn.DataParallel,
    "compiled ddp": lambda network: torch.compile(Wrapped(network)),
    "ddp of compiled": lambda network: Wrapped(torch.compile(network)),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("backwards", [False, True])
def test_a_wrapped_network_s_tensors_are_a_plain_one_s(wrapper: str, backwards: bool) -> None:
    plain, wrapped = Net(1), WRAPPERS[wrapper](Net(0))
    source, target = (plain, wrapped) if backwards else (wrapped, plain)
    saved = checkpoint.plain(source.state_dict())
    assert not checkpoint.compare(target, saved)
    with pytest.warns(UserWarning, match="was taken for"):
        assert not checkpoint.load_network(target, saved)
    assert [*map(digest, target.state_dict().values())] == [*map(digest, saved.values())]


def test_a_real_ddp_is_one_of_them(tmp_path: Path) -> None:
    with parallel.process_group(0, 1, f"file://{tmp_path / 'meeting'}", "cpu"):
        wrapped = torch.nn.parallel.DistributedDataParallel(Net(0))
        saved = checkpoint.plain(wrapped.state_dict())
    assert all(name.startswith("module.") for name in saved)
    with pytest.warns(UserWarning, match="module.body.0.weight was taken for body.0.weight"):
        checkpoint.load_network(network := Net(1), saved)
    assert digest(network.state_dict()) == digest(Net(0).state_dict())


def test_a_module_that_is_named_so_keeps_its_name(recwarn: pytest.WarningsRecorder) -> None:
    saved = checkpoint.plain(Wrapped(Net(0)).state_dict())
    checkpoint.load_network(network := Wrapped(Net(1)), saved)
    assert digest(network.state_dict()) == digest(saved) and not len(recwarn)


def test_two_tensors_for_one_name_stay_apart() -> None:
    saved = checkpoint.plain(Net(0).state_dict())
    both = {f"module.{n}": t for n, t in saved.items()} | {
        f"_orig_mod.{n}": t for n, t in saved.items()
    }
    mismatch = checkpoint.compare(Net(1), both)
    assert set(mismatch.missing) == set(saved) and set(mismatch.unexpected) == set(both)


class Noting(torch.nn.Linear):
    """A layer that keeps a note beside its tensors, which a later one must not turn down."""

    def __init__(self, note: Any, refuses: bool = False) -> None:
        super().__init__(3, 2)
        self.note, self.refuses = note, refuses

    def get_extra_state(self) -> Any:
        return self.note

    def set_extra_state(self, note: Any) -> None:
        if self.refuses and note != self.note:
            raise ValueError("not mine\nat all")
        self.note = note


NOTES = [
    torch.arange(3),
    torch.tensor(7.0),
    {"seen": [1, (2.5, "a")], "at": torch.ones(2)},
    3,
    None,
]


@pytest.mark.parametrize("note", NOTES, ids=str)
def test_extra_state_of_any_kind_comes_back(note: Any, tmp_path: Path) -> None:
    source, network = Noting(note), Noting("none yet")
    assert not checkpoint.compare(network, source.state_dict())
    checkpoint.save(tmp_path / "c.pt", {"model": checkpoint.plain(source.state_dict())})
    saved = checkpoint.load(tmp_path / "c.pt")["model"]
    assert not checkpoint.load_network(network, saved)
    assert digest(dict(network.state_dict())) == digest(dict(source.state_dict()))
    if isinstance(note, torch.Tensor):
        saved["_extra_state"].add_(1)
        assert torch.equal(network.note, note), "the network shares the checkpoint's memory"


def test_extra_state_is_told_apart_by_its_name() -> None:
    network = torch.nn.Sequential(Noting(1), Noting(2))
    saved = checkpoint.plain(torch.nn.Sequential(Noting(3), torch.nn.Linear(3, 2)).state_dict())
    assert str(checkpoint.compare(network, saved)) == "missing 1._extra_state"
    checkpoint.load_network(network, saved, prefix="0")
    assert [layer.note for layer in network] == [3, 2]


def test_a_module_that_turns_its_extra_state_down_changes_nothing() -> None:
    networks = {"a": Net(0), "b": torch.nn.Sequential(Noting(1), Noting(2, refuses=True), Net(0))}
    saved = {"a": Net(1), "b": torch.nn.Sequential(Noting(3), Noting(4), Net(1))}
    content = state.snapshot(saved, {}, {})
    before = digest(state.snapshot(networks, {}, {}))
    message = "does not take its saved state: ValueError: not mine$"
    with pytest.raises(CheckpointError, match=message):
        state.restore(content, networks, {}, {})
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load_network(networks["b"], content["networks"]["b"], strict=False)
    assert digest(state.snapshot(networks, {}, {})) == before


class Telling(torch.nn.Linear):
    """A layer with extra state that it does not take back."""

    def __init__(self, version: int) -> None:
        super().__init__(3, 2)
        self.version = version

    def get_extra_state(self) -> Any:
        return {"version": self.version}


def test_extra_state_that_nothing_takes_may_not_differ() -> None:
    network = torch.nn.Sequential(Telling(1))
    checkpoint.load_network(network, torch.nn.Sequential(Telling(1)).state_dict())
    before = digest(dict(network.state_dict()))
    with pytest.raises(CheckpointError, match=r"takes 0._extra_state: .* needs set_extra_state"):
        checkpoint.load_network(network, torch.nn.Sequential(Telling(2)).state_dict())
    assert digest(dict(network.state_dict())) == before


def test_a_module_that_saves_copies_is_loaded_too() -> None:
    def copied(module: Any, state: Any, prefix: str, metadata: Any) -> None:
        state[f"{prefix}weight"] = state[f"{prefix}weight"].clone()

    network = Net(1)
    network.head.register_state_dict_post_hook(copied)
    checkpoint.load_network(network, Net(0).state_dict())
    assert digest(network.state_dict()) == digest(Net(0).state_dict())
