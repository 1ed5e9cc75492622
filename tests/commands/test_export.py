"""``decathlon export``: a trained network as safetensors, read back by that library."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from toy import Toy

import harness
from harness import Cell, checkpoint
from harness.cli import main

CELLS = [Cell("toy", "line", "mse", "cosine", one) for one in ("single", "fsdp")]
TREE = {"cell": "gan/dcgan-ce-cosine-single-s0", "topic": {"dataset": "digits", "size": (1, 8)}}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return harness.run(Toy(), "smoke", folder=tmp_path_factory.mktemp("run"), select=CELLS)


def export(*arguments):
    return main(["export", *map(str, arguments)])


def saved(path, **networks):
    states = {name: dict(network.state_dict()) for name, network in networks.items()}
    checkpoint.save(path, TREE | {"networks": states})
    return states


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.parallel)
@pytest.mark.parametrize("how", ["cell", "checkpoint"])
def test_it_reads_back_bit_for_bit(results, tmp_path, cell, how, capsys):
    out = tmp_path / "new" / "weights.safetensors"
    path = results.folder / "checkpoints" / cell.id / "final.pt"
    which = [path] if how == "checkpoint" else [cell.id, "--run-dir", results.folder]
    assert export(*which, "--out", out) == 0
    assert capsys.readouterr().out == f"{out}\n"
    network = results.network(cell)
    assert checkpoint.digest(load_file(out)) == checkpoint.digest(dict(network.state_dict()))
    with safe_open(out, "pt") as file:
        about = file.metadata()
    assert about["cell"] == cell.id and about["network"] == "model" and about["format"] == "pt"
    assert json.loads(about["topic"])["misbehave"] == "none"
    assert about["sha256"] == checkpoint.digest(load_file(out))
    assert about["torch"] == torch.__version__


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 7)
        self.head.weight = self.embed.weight
        self.register_buffer("turned", torch.arange(6.0).reshape(2, 3).T)
        self.low = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
        self.register_buffer("count", torch.tensor(3))


@pytest.mark.parametrize("wrap", [lambda n: n, torch.compile], ids=["plain", "compiled"])
def test_shared_strided_and_compiled_tensors(tmp_path, wrap):
    plain = Tied()
    saved(tmp_path / "final.pt", model=wrap(plain))
    assert export(tmp_path / "final.pt", "--out", tmp_path / "w.safetensors") == 0
    found = load_file(tmp_path / "w.safetensors")
    assert checkpoint.digest(found) == checkpoint.digest(dict(plain.state_dict()))
    Tied().load_state_dict(found)


def test_a_network_that_keeps_all_in_a_module_of_its_own_has_its_names(tmp_path):
    own = nn.Sequential()
    own.module = nn.Linear(2, 3)
    saved(tmp_path / "final.pt", model=own)
    assert export(tmp_path / "final.pt", "--out", tmp_path / "w.safetensors") == 0
    assert load_file(tmp_path / "w.safetensors").keys() == own.state_dict().keys()


def test_extra_state_that_is_no_tensor_is_left_out_and_said_to_be(tmp_path, capsys):
    class Counts(nn.Linear):
        def get_extra_state(self):
            return {"seen": 3}

    states = saved(tmp_path / "c.pt", model=Counts(2, 1))
    assert export(tmp_path / "c.pt", "--out", tmp_path / "c.safetensors") == 0
    assert "_extra_state is no tensor, and left out" in capsys.readouterr().out
    assert load_file(tmp_path / "c.safetensors").keys() == states["model"].keys() - {"_extra_state"}


def test_of_several_networks_one_is_named(tmp_path, capsys):
    saved(tmp_path / "final.pt", generator=nn.Linear(2, 3), critic=nn.Linear(3, 1))
    out = tmp_path / "w.safetensors"
    assert export(tmp_path / "final.pt", "--out", out) == 2
    assert "holds generator, critic: say which by --network NAME" in capsys.readouterr().err
    assert export(tmp_path / "final.pt", "--out", out, "--network", "critc") == 2
    assert "unknown network 'critc': choose from critic" in capsys.readouterr().err
    assert not out.exists()
    assert export(tmp_path / "final.pt", "--out", out, "--network", "critic") == 0
    assert load_file(out)["weight"].shape == (1, 3)


@pytest.mark.parametrize(
    ("which", "out", "message"),
    [
        ("toy/line-mse-cosine-single-s7", "w.safetensors", "there is no such file"),
        ("toy", "w.safetensors", "'toy' is no cell id"),
        ("final.pt", "w.pt", "w.pt must be a file whose name ends in .safetensors"),
        ("cut.pt", "w.safetensors", "cut.pt is damaged"),
        ("fitted.pt", "w.safetensors", "holds no network: regression/tree-mse"),
        ("final.pt", "final.pt/w.safetensors", "cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_leaves_what_is_there(
    tmp_path, monkeypatch, capsys, which, out, message
):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "final.pt", model=nn.Linear(2, 3))
    shutil.copy("final.pt", "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:-50])
    cell = {"cell": "regression/tree-mse-constant-single-s0", "topic": {}}
    checkpoint.save(tmp_path / "fitted.pt", cell | {"estimator": torch.zeros(3)})
    (tmp_path / "w.safetensors").write_text("kept")
    assert export(which, "--out", out) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert (tmp_path / "w.safetensors").read_text() == "kept"
