"""What the page says that a run cannot tell, and the command that it names."""

import pandas as pd
import pytest

from harness.results.dashboard import told


def cells(**more):
    return pd.DataFrame(
        {"topic": "gan", "status": "done", "model": "m", "loss": loss, "schedule": schedule}
        | {"cost.wall_s": 24.0, "environment.cores": 2.0}
        | more
        for loss, schedule in (("ce", "a"), ("mse", "b"))
    )


def shares(**df):
    return pd.DataFrame({"kind": "share", "axis": axis, "df": n} for axis, n in df.items())


def test_one_seed_and_a_tied_design_name_the_race_and_its_minutes():
    best = {"counts": {"one seed": 2}}
    found = told.cannot(cells(), shares(loss=0, schedule=0, residual=3), best, ["gan", "vae"])
    assert "the effect of loss or schedule alone" in found["said"]
    assert found["said"].startswith("which recipe is best: each has one seed; nor the effect")
    # 2 losses x 2 schedules, five times, at 24 s on two cores; half of that for fresh seeds
    command = (
        "decathlon run --profile race --minutes 6 -k gan --model m --loss ce,mse --schedule a,b"
    )
    assert found["command"] == command
    assert (found["recipes"], found["minutes"]) == (4, 6)


def test_a_saturated_design_is_said():
    found = told.cannot(
        cells(), shares(loss=1, residual=0), {"counts": {"best": 1, "worse": 3}}, ()
    )
    assert found["said"] == "effects from luck: it has as many parameters as cells"


def test_a_run_that_tells_all_says_nothing():
    design = shares(loss=1, schedule=1, residual=9)
    assert told.cannot(cells(), design, {"counts": {"best": 1, "worse": 3}}, ()) is None
    tied = told.cannot(cells(), design, {"counts": {"tied": 2, "worse": 3}}, ())
    assert tied["said"] == "which of 2 recipes is best"
    assert told.cannot(cells(), design, None, ()) is None


def test_means_of_other_seeds_are_said_to_be_so():
    """Those of one seed are told of apart, and exact configurations are single's."""
    tried = [("ce", "single", 0), ("ce", "single", 1), ("ce", "ddp", 2)]
    tried += [("mse", "single", 0), ("mse", "single", 1), ("mae", "single", 5)]
    table = pd.DataFrame(
        {"topic": "gan", "status": "done", "model": "m", "schedule": "a"}
        | {"loss": loss, "parallel": parallel, "seed": seed}
        | {"parity.exact": float(parallel == "ddp"), "settings": "", "cost.wall_s": 24.0}
        for loss, parallel, seed in tried
    )
    design, best = shares(loss=1, schedule=1, residual=9), {"counts": {"best": 1, "worse": 1}}
    found = told.cannot(table, design, best, ())
    assert found["said"] == (
        "whether recipes differ or their seeds: 1 of 2 recipes have others than the rest"
    )
    assert told.cannot(table[table["seed"] < 2], design, best, ()) is None


def test_without_times_no_command_is_named():
    assert told.race(cells().drop(columns="cost.wall_s"), ()) == {}


def test_a_topic_within_another_ones_name_is_chosen_alone():
    command = told.race(cells(), ["gan", "style_gan"])["command"]
    assert " -k '[gan/' " in command


def test_a_race_names_all_that_was_tried_and_counted():
    losses = ("mse", "ce", "kl", "hinge", "huber")
    found = told.race(pd.concat([cells(loss=name) for name in losses]), ())
    told_losses = f"--loss {','.join(losses)}"
    assert found["command"].endswith(f" -k gan --model m {told_losses} --schedule a,b")
    assert found["recipes"] == 10


def test_a_single_recipe_has_nothing_to_race_with():
    assert told.race(cells().head(1), ()) == {}


def test_where_nothing_trained_that_is_what_is_said():
    found = told.cannot(cells(), shares(loss=1, residual=3), {"counts": {"untrained": 4}}, ())
    assert found["said"] == "which recipe is best: none has trained"


def test_on_a_gpu_a_race_has_as_many_places_as_share_it():
    gpu = cells(**{"environment.cores": 16.0, "environment.per_gpu": 1.0, "command": "replay"})
    # 2 losses x 2 schedules, five times, at 24 s, one after the other; half of that for fresh seeds
    found = told.race(gpu, ())
    assert found["minutes"] == 12 and "--per-gpu" not in found["command"]
    shared = told.race(gpu.assign(**{"environment.per_gpu": 4.0}), ())
    assert shared["minutes"] == 3 and shared["command"].endswith(" --per-gpu 4")
    fitted = pd.concat([gpu, cells(**{"environment.cores": 16.0, "command": "replay"})])
    assert told.race(fitted, ())["minutes"] == 12


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_cells_for_which_a_device_was_asked_race_there_too(device):
    kept = f"python -m harness replay gan/m-ce-a-single-s0 --run-dir r --device {device}"
    assert told.race(cells(command=kept), ())["command"].endswith(f" --device {device}")
    for other in ("", "python -m harness replay gan/m-ce-a-single-s0"):
        mixed = pd.concat([cells(command=kept), cells(command=other)])
        assert "--device" not in told.race(mixed, ())["command"]
