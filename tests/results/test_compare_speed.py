"""The verdict on speed: by processes, beside yardsticks, on quiet and on loaded machines."""

import math

import numpy as np
import pandas as pd
import pytest
from frames import frame
from scipy import stats

from harness.results import compare
from harness.results.compare import speed

TOPICS = ("gan", "multitask", "pixelcnn", "regression", "rl", "style_gan", "vae", "vgg")
QUIET = {"between": 0.015, "common": 0.005, "load": 0.0}
LOADED = {"between": 0.04, "common": speed.RUN, "load": 0.2}


def timed(
    generator, factor=1.0, topics=TOPICS, processes=6, between=0.02, common=0.0, load=0.0, share=0.3
):
    """A run's ``speed.csv``, which slows steps of the first topic by ``factor``.

    between, common: sd of what processes and runs add to steps. load: sd of what a run adds to the
    yardstick of small operations; its processes add half of that.
    """
    rows = []
    run_load = load * abs(generator.normal())
    for topic in topics:
        run = common * generator.normal()
        for process in range(processes):
            large = 0.3 * generator.normal()  # the machine, which all meet
            small = large + run_load + load / 2 * generator.normal()
            step = share * small + (1 - share) * large + run + between * generator.normal()
            step += math.log(factor) if topic == topics[0] else 0.0
            for number in range(3):
                logs = np.array([step, small, large]) + 0.02 * generator.normal(size=3)
                times = dict(zip(speed.TIMES, np.exp(logs), strict=True))
                about = {"topic": topic, "model": "first", "process": process, "round": number}
                rows.append(about | times)
    return pd.DataFrame(rows)


def verdicts(a, b):
    return [row.verdict for row in speed.rows(a, b)]


def share_called_different(times, begin=0, factor=1.0, what=("worse", "better"), **noise):
    """In what share of comparisons of two runs a row has one of some verdicts."""
    found = 0
    for number in range(begin, begin + times):
        generator = np.random.default_rng(number)
        a, b = (timed(generator, one, **noise) for one in (1.0, factor))
        found += any(verdict in what for verdict in verdicts(a, b))
    return found / times


@pytest.mark.parametrize("processes", [2, 3, 6])
@pytest.mark.parametrize("noise", [QUIET, LOADED], ids=["quiet", "loaded"])
def test_equal_speeds_are_called_different_in_5_percent_at_most(noise, processes):
    times = 60
    most = stats.binom.ppf(0.999, times, 0.05) / times  # but for one in a thousand
    assert share_called_different(times, processes=processes, **noise) <= most


@pytest.mark.parametrize(
    ("factor", "noise", "what"),
    [
        (1.1, QUIET, ["worse"]),
        (1 / 1.1, QUIET, ["better"]),
        (1.2, LOADED, ["worse"]),
    ],
)
def test_one_slower_recipe_of_eight_is_seen(factor, noise, what):
    assert share_called_different(40, 1000, factor, what, **noise) >= 0.8


def one_row(factor=1.0, **noise):
    generator = np.random.default_rng(0)
    a, b = (timed(generator, one, ("vgg",), **noise) for one in (1.0, factor))
    (row,) = speed.rows(a, b)
    return row


def test_what_is_certain_and_over_5_percent_off_counts():
    assert one_row(1.3).verdict == "worse" and one_row(1 / 1.3).verdict == "better"
    precise = {"between": 0.001, "processes": 40}
    assert one_row(1.0, **precise).note.endswith("same within 5%")
    slightly = one_row(1.045, **precise)
    assert slightly.verdict != "worse" and slightly.candidate > slightly.baseline


def test_too_few_processes_say_what_they_would_have_seen():
    row = one_row(processes=2, between=0.1)
    assert row.verdict == "not enough evidence" and "would have been seen" in row.note


def test_the_note_holds_an_interval_at_the_level_of_all_models():
    generator = np.random.default_rng(0)
    a, b = timed(generator), timed(generator, 1.5)
    first = next(iter(speed.rows(a, b)))
    alone = next(iter(speed.rows(*(f[f["topic"] == "gan"] for f in (a, b)))))
    low, alone_low = (float(row.note.split("(")[1].split(" ")[0]) for row in (first, alone))
    assert first.verdict == alone.verdict == "worse" and 1 < low < alone_low


def test_without_a_pair_of_files_of_one_machine_nothing_is_judged():
    run = timed(np.random.default_rng(0))
    for pair, elsewhere in (((run, None), ()), ((None, None), ()), ((run, run), set(run["topic"]))):
        (row,) = speed.rows(*pair, elsewhere)
        assert row.verdict == "same" and math.isnan(row.baseline)


def test_a_topic_of_another_machine_leaves_the_others_judged():
    run = timed(np.random.default_rng(0), topics=("gan", "vgg"))
    not_compared, judged = speed.rows(run, run.assign(step_ms=2 * run["step_ms"]), {"gan"})
    assert not_compared.note == "gan: other machine: not compared"
    assert (judged.topic, judged.verdict) == ("vgg", "worse")


def test_a_timed_topic_without_a_cell_done_in_both_runs_is_of_the_others_machine():
    run = timed(np.random.default_rng(0), topics=("gan", "vgg"))
    slower = run.assign(step_ms=2 * run["step_ms"])
    for cpu, judged in (("x", {"gan", "vgg"}), ("y", set())):
        found = compare.compare(frame(), frame(cpu=cpu), (run, slower))
        own = [row for row in found.rows if row.aspect == "speed" and row.verdict == "worse"]
        assert {row.topic for row in own} == judged


def test_a_model_of_one_process_is_named_and_not_judged():
    run = timed(np.random.default_rng(0), topics=("gan", "vgg"))
    single = run[(run["topic"] != "gan") | (run["process"] == 0)]
    not_judged, judged = speed.rows(single, run)
    assert not_judged.verdict == "not enough evidence" and "gan/first" in not_judged.note
    assert judged.topic == "vgg"


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_times_that_are_none_do_not_count(value):
    run = timed(np.random.default_rng(0), topics=("vgg",))
    broken = run.assign(step_ms=run["step_ms"].where(run["process"] == 0, value))
    (row,) = speed.rows(run, broken)
    assert row.verdict == "not enough evidence" and "vgg/first" in row.note


def test_load_on_small_operations_alone_makes_no_step_worse():
    generator = np.random.default_rng(0)
    noise = {"between": 0.01, "load": 0.1, "topics": ("rl",), "share": 0.9}
    quiet, loaded = timed(generator, **noise), timed(generator, **noise)
    loaded[["step_ms", "small_ms"]] *= [1.4**0.9, 1.4]
    (row,) = speed.rows(quiet, loaded)
    assert row.verdict not in ("worse", "better")


def test_a_run_is_as_fast_as_itself():
    own = timed(np.random.default_rng(0), load=1.0)
    (row,) = speed.rows(own, own.copy())
    assert (row.verdict, row.note) == ("same", "the same measurements")
