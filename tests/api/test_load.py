"""Results of a run: tables, records, and the networks that its cells have trained."""

import shutil
import subprocess
import sys
import warnings

import pandas as pd
import pytest
import torch
from run_folder import BAD, GOOD, cut, make
from test_plugin import CONFTEST, EXPERIMENT
from torch import nn
from toy import Toy

import harness
from harness import Cell, UsageError, checkpoint, load, restored

SINGLE, DDP, FSDP = (Cell("toy", "line", "mse", "cosine", one) for one in ("single", "ddp", "fsdp"))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "smoke"
    chosen = {"models": ["line", "dropout"], "parallel": ["single", "ddp", "fsdp"]}
    return harness.run(Toy(), "smoke", folder=folder, select="line or single", **chosen)


def test_the_tables_are_those_of_the_folder(results):
    for name in ("cells", "curves", "held_out"):
        written = pd.read_parquet(results.folder / f"{name}.parquet")
        pd.testing.assert_frame_equal(getattr(results, name), written, check_dtype=False)
    for name in ("summary", "effects", "improvement"):
        assert len(getattr(results, name)) == _rows(results.folder / f"{name}.csv")
    assert results.page.is_file() and len(results.records) == len(results.cells) == 4


def _rows(path):
    return len(path.read_text().splitlines()) - 1


@pytest.mark.parametrize("cell", [SINGLE, DDP, FSDP], ids=lambda cell: cell.parallel)
@pytest.mark.parametrize("how", ["of the run", "loaded"])
def test_a_cell_s_network_measures_what_its_record_says(results, cell, how):
    found = results if how == "of the run" else load(results.folder, topics=Toy())
    before = torch.get_rng_state()
    network = found.network(cell.id)
    assert torch.equal(torch.get_rng_state(), before)
    assert type(network) is nn.Sequential and not network.training
    measured = Toy().evaluate({"model": network}, cell)
    assert measured["mse"] == pytest.approx(results.record(cell).metrics["mse"], rel=1e-6)
    middle = found.network(cell, "middle")
    assert not torch.equal(middle[0].weight, network[0].weight)


def test_what_a_later_run_trained_anew_is_not_taken_for_what_was_read(tmp_path):
    chosen = {"folder": tmp_path / "run", "models": ["line"], "schedules": ["constant"]}
    first = harness.run(Toy(), "smoke", losses=["mse"], **chosen)
    second = harness.run(Toy(), "smoke", losses=["mse", "mae"], **chosen)
    mse, mae = (Cell("toy", "line", loss, "constant") for loss in ("mse", "mae"))
    assert [*first.records] == [mse.id] and len(second.records) == 2
    first.network(mse)
    third = harness.run(
        Toy(), "smoke", losses=["mse"], rerun=True, settings={"toy.steps": 9}, **chosen
    )
    assert third.network(mse) and third.network(mae)
    for cell in (mse, mae):
        with pytest.raises(UsageError, match=f"{cell.id} was trained after .* load it again"):
            first.network(cell)
    del second.records
    with pytest.raises(UsageError, match=f"{mse.id} was trained after"):
        second.curves  # noqa: B018
    second.network(mae)


def test_a_network_of_other_code_than_is_here_now_is_said_to_be_one(results, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results.network(SINGLE)
    monkeypatch.setattr(restored, "lasting_hash", lambda _: "other")
    with pytest.warns(UserWarning, match=f"{SINGLE.id} was trained by other code"):
        results.network(SINGLE)
    monkeypatch.setattr(restored, "has_file", lambda _: False)  # as in a notebook
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results.network(SINGLE)


def test_a_skip_leaves_what_was_trained(tmp_path, capsys):
    chosen = {"folder": tmp_path / "run", "models": ["line"], "losses": ["mse"]}
    found = harness.run(Toy(), "smoke", parallel=["ddp"], schedules=["cosine"], **chosen)
    before = found.record(DDP).metrics
    found = harness.run(
        Toy(), "smoke", parallel=["ddp"], schedules=["cosine"], world_size=3, **chosen
    )
    assert f"{DDP.id} is skipped, and its earlier record stays" in capsys.readouterr().out
    assert found.record(DDP).metrics == before and found.network(DDP)


def test_weights_of_a_compiled_network_are_a_plain_one_s(results, tmp_path):
    shutil.copytree(results.folder, tmp_path / "run")
    path = tmp_path / "run/checkpoints" / SINGLE.id / "final.pt"
    tree = checkpoint.load(path)
    network = results.network(SINGLE)
    tree["networks"]["model"] = checkpoint.plain(torch.compile(network).state_dict())
    checkpoint.save(path, tree)
    with pytest.warns(UserWarning, match="_orig_mod.0.weight was taken for 0.weight"):
        found = load(tmp_path / "run", topics=[Toy()]).network(SINGLE)
    assert checkpoint.digest(found.state_dict()) == checkpoint.digest(network.state_dict())


def test_topics_of_a_conftest_are_found(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_own.py").write_text(EXPERIMENT)
    asked = ("-m", "pytest", "-q", "--profile", "smoke", "-p", "no:xdist", "-k", "single and line")
    subprocess.run([sys.executable, *asked], cwd=tmp_path, check=True, capture_output=True)
    code = f"from harness import load; print(load('results/smoke').network('{SINGLE.id}'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.startswith("Sequential("), done.stderr


def test_it_tells_of_itself(results):
    assert repr(results).startswith(f"Results('{results.folder}'): 4 cells, 4 done; see ")
    html = results._repr_html_()
    assert html.count("<tr") == 4 and "4 cells, 4 done" in html


def test_a_damaged_record_is_said(tmp_path):
    make(tmp_path)
    cut(tmp_path / "cells" / f"{GOOD[0].id.replace('/', '--')}.json")
    with pytest.warns(UserWarning, match="counts as not run"):
        found = load(tmp_path)
    assert len(found.cells) == len(GOOD)


def test_tables_without_records_are_read(tmp_path, results):
    shutil.copy(results.folder / "cells.csv", tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load(str(tmp_path))
    assert list(found.cells.id) == list(results.cells.id) and not found.records
    pd.testing.assert_frame_equal(found.summary, results.summary)
    with pytest.raises(UsageError, match="has no final checkpoint"):
        found.network(SINGLE)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: load(r.folder / "nowhere"), "nowhere is no folder"),
        (lambda r: r.record("toy/lin-mse-cosine-single-s0"), "'toy/lin-mse-cosine-single-s0': ch"),
        (lambda r: r.record("toy"), "'toy' is no cell id"),
        (lambda r: r.network(SINGLE, "best"), "unknown checkpoint 'best': choose from final, mid"),
        (lambda r: r.network(SINGLE, name="net"), "unknown network 'net': choose from model"),
        (lambda r: r.network(Cell("toy", "line", "ce", "cosine")), "unknown cell"),
        (lambda r: r.study("parityy"), "unknown study 'parityy': choose from parity"),
        (lambda r: r.study("speed"), "has no speed.csv"),
        (lambda r: load(r.folder, topics=Toy), "is a class: give an instance"),
    ],
)
def test_what_is_not_there_is_one_line(results, call, message):
    with pytest.raises(UsageError) as raised:
        call(results)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_a_cell_that_has_not_ended_says_how_it_ended(tmp_path):
    make(tmp_path)
    with pytest.raises(UsageError, match=f"{BAD.id} has no final checkpoint, .*: it is done"):
        load(tmp_path).network(BAD)


def test_an_estimator_is_no_network(tmp_path):
    names = {"models": ["linear", "tree"], "select": "tree", "folder": tmp_path / "run"}
    found = harness.run("regression", "smoke", schedules=["constant"], **names)
    cell = found.cells.id[0]
    with pytest.raises(UsageError, match="is a DecisionTree.*, no network"):
        found.network(cell)
    assert found.networks(cell)["model"].tree_.node_count > 1
