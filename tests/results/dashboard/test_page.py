"""The page: escaped, offline, of bounded size, and worked by a real browser."""

import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from frames import frame
from plotly.offline import get_plotlyjs

from harness.cell import Cell
from harness.results import dashboard, effects, tables
from harness.results.columns import Tables
from harness.results.dashboard.page import PNG as PNG_START
from harness.results.dashboard.text import NONE
from harness.results.record import Record
from harness.results.summary import summary

EVIL = "<script>alert(1)</script>"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PNG = PNG_START + b"\0\0\0\rIHDR" + (8).to_bytes(4, "big") * 2


def record(topic, model="m", loss="ce", value=None, status="done", direction="max", **more):
    known = {} if value is None else {"score": value}
    cell = Cell(topic, model, loss, "cosine", more.pop("parallel", "single"), more.pop("seed", 0))
    directions = {"score": direction} if status == "done" else {}
    return Record(cell, "f", status, metrics=known, directions=directions, **more).to_dict()


def render(records, **more):
    cells = tables.cells(records)
    images = more.pop("images", None)
    told = (tables.curves(records), summary(cells), effects.effects(cells))
    return dashboard.render(Tables(cells, *told, **more), EVIL, images)


def own(html):
    """The page without Plotly's source."""
    return html.replace(get_plotlyjs(), "")


def page():
    skipped = Record(Cell("vgg", "vgg11", "ce", "adam"), "f", "skipped", reason=EVIL)
    other = Record(
        Cell("vgg", "vgg13", "ce", "cosine"), "f", "diverged", "nan at step 7", diverged_at=7
    )
    extra = tables.cells([skipped.to_dict(), other.to_dict()])
    slower = frame(shift=0.001).assign(model="vgg13", id=lambda t: t.id.str.replace("11", "13"))
    cells = pd.concat([frame(), slower, extra], ignore_index=True)
    cells["cost.train_s"] = [1.0] * 6 + [5.0] * 6 + [np.nan] * 2
    cells["command"] = "replay " + cells["id"]
    curve = {"step": [1, 2], "loss": [1.0, 0.5], "lr": [0.1, 0.1]}
    curves = tables.curves([{"id": i, "curve": curve} for i in cells.id])
    found = effects.effects(cells)
    return dashboard.render(Tables(cells, curves, summary(cells), found), EVIL)


def test_text_from_outside_is_escaped_and_nothing_is_fetched():
    html = own(page())
    assert EVIL not in html and "&lt;script&gt;alert(1)" in html
    fetched = re.findall(r"<(?:script|img|link)[^>]+(?:src|href)=\"(?!data:)[^\"]*", html)
    assert not fetched
    assert page().count(get_plotlyjs()) == 1


def test_the_headline_names_what_cannot_be_told_apart_and_the_cheapest_of_them():
    html = " ".join(re.sub(r"<[^>]+>", "", own(page())).split())
    assert "4 of 4 recipes cannot be told apart: vgg13 with ce, cosine; vgg13 with" in html
    assert "vgg13 with ce, cosine leads. Reported accuracy 0.811" in html
    assert "of those, vgg11 with ce, cosine is cheapest: 0.81 in 1 s instead of 5 s." in html
    assert "untrained 0.1" in html and "3/3 trained" in html
    assert "Chosen by test data" in html and "cannot tell which of 4 recipes is best" in html


def test_one_seed_is_never_called_best():
    html = words(render([record("a", loss=loss, value=value) for loss, value in losses()]))
    assert "One seed: nothing is told apart . 2 of 3 recipes share the highest score" in html
    assert "is best of" not in html and "cannot tell which recipe is best" in html


def test_a_metric_that_is_no_number_is_said_to_be_none():
    odd = [record("a", value=float("inf"), seed=seed, status="unmeasured") for seed in range(2)]
    good = [record("a", loss="mse", value=0.9, seed=seed) for seed in range(2)]
    html = words(render([*odd, *good]))
    lost = "2 of 4 cells that trained have no finite score, so their recipes are compared with none"
    assert lost in html and "m with mse, cosine leads" in html
    assert "is best of" not in html and "is the only recipe" not in html
    assert "2 unmeasured" in html and "Failed: 2" in html


def losses():
    return (("ce", 0.9), ("mse", 0.9), ("mae", 0.1))


def test_failures_stand_beside_the_answer_and_exact_configurations_are_out_of_it():
    exact = {"difference": 1e-7, "exact": True, "equal": True, "reason": ""}
    cells = [record("a", value=0.5, seed=seed) for seed in range(3)]
    cells += [record("a", seed=3, status="diverged", reason="nan", baseline={"score": 0.1})]
    cells += [record("a", value=0.99, parallel="ddp", parity=exact)]
    html = own(render(cells))
    assert "3/4" in html and "is the only recipe" in html
    assert "cannot be told apart</b>" not in html


def test_no_shape_of_run_breaks_the_page():
    nan, inf = float("nan"), float("inf")
    curve = {"step": [1, 2, 3], "loss": [1.0, inf, nan], "lr": [0.1, 0.1, 0.0]}
    odd = [
        record("nothing", status="skipped", reason=EVIL),
        record("broken", status="failed", reason="Boom", traceback=EVIL),
        record("nan", value=nan),
        record("inf", value=inf, direction="min"),
        record(
            "dead",
            status="diverged",
            reason="the loss is not finite at step 12",
            diverged_at=12,
            curve=curve,
        ),
        record("one", value=-3.0),
        record("cells", value=1.0, direction="min"),
    ]
    html = own(render(odd, images={odd[5]["id"]: PNG, odd[6]["id"]: b"no png"}))
    assert html.count("No recipe of this topic has a result") == 5
    assert '<td data-v="12">12' in html
    assert html.count('src="data:image/png;base64,') == 1 and "one/m-ce-cosine-single-s0" in html
    assert EVIL not in html
    data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])
    assert len(data["cells"]["rows"]) == len(odd)
    for single in odd:
        assert "</html>" in render([single])
    assert "no cells" in render([])


def test_failing_checks_and_parity_are_named():
    good = {"state_equal": True, "metrics_equal": True}
    records = [
        record("a", value=0.5, checkpoint=good),
        record("a", value=0.5, parallel="ddp", checkpoint=good | {"state_equal": False}),
    ]
    records[1]["parity"] = {"difference": 0.5, "exact": True, "equal": False}
    html = own(render(records))
    assert "✗ 1 checks fail" in html and "✗ 1 not as single" in html
    assert html.count("✗ 1 of 2 fail") == 1 and html.count("✗ 1 of 1 fail") == 1
    assert "1 cells fail parity" in html and "Parallel configurations beside single" in html


def test_efficiency_is_told_of_ranks_and_not_of_dp():
    costs = {"single": 100.0, "ddp": 150.0, "dp": 180.0}
    ranks = {"ddp": 2}
    found = words(
        render(
            record(
                "a",
                value=0.5,
                parallel=name,
                cost={"samples_per_s": rate},
                world_size=ranks.get(name, 1),
            )
            for name, rate in costs.items()
        )
    )
    assert (
        "ddp 2 1 150 1.5 1.5 to 1.5 75 %" in found and f"dp 1 1 180 1.8 1.8 to 1.8 {NONE}" in found
    )


def test_how_data_was_taken_is_said_once_a_topic():
    notes = [EVIL, "12 rows without a target were left out"]
    topic = [record("a", value=0.5, data_notes=notes, seed=seed) for seed in range(3)]
    html = own(render([*topic, record("b", value=0.5, data_notes=["other"])]))
    assert EVIL not in html
    for note in ("&lt;script&gt;alert(1)&lt;/script&gt;", "12 rows without a target were left out"):
        assert html.count(f"<li>{note}") == 1
    first, second = html.split('id="topic-b"')
    assert "12 rows" in first and "<li>other" in second and "<li>other" not in first


def test_a_topic_names_the_gpus_that_it_was_trained_on():
    devices = {"a": "cpu", "b": "a GPU", "c": "a GPU"}
    made = [record(name, value=0.5, environment={"device": on}) for name, on in devices.items()]
    made.append(record("c", "tree", value=0.5, environment={"device": "cpu"}))
    html = own(render(made))
    on_cpu, there, both = html.split('id="topic-')[1:]
    assert "on a GPU" not in on_cpu and "on a GPU" in there and "on a GPU, cpu" in both


@pytest.mark.parametrize("status", ["failed", "skipped", "diverged"])
def test_a_long_reason_is_folded(status):
    reason = f"{EVIL} {'word ' * 300}end"
    html = own(render([record("a", status=status, reason=reason)]))
    assert EVIL not in html
    shown = re.sub(r"</summary>.*?</details>", "", html.split('id="outcomes"')[1], flags=re.S)
    assert "word word" in shown and "…" in shown and "end" not in words(shown).split()
    assert "word end" in words(html)


def test_damaged_files_are_named():
    cells = tables.cells([record("a", value=0.5)])
    told = Tables(cells, tables.curves([]), summary(cells), effects.effects(cells))
    html = own(dashboard.render(told, "run", damaged=[f"{EVIL}.json is no record"]))
    assert "Damaged files" in html and "&lt;/script&gt;.json is no record" in html
    assert "Damaged files" not in own(dashboard.render(told, "run"))


def ranked(**columns):
    return pd.DataFrame({"topic": "gan", "model": "dcgan", **columns})


def words(html):
    return " ".join(re.sub(r"<[^>]+>", " ", own(html)).split())


@pytest.mark.parametrize("equal", [True, False])
def test_parity_of_every_configuration_is_shown_and_a_broken_one_named(equal):
    table = ranked(
        parallel=["ddp", "local_sgd"],
        ranks=2,
        difference=[1.5e-7 if equal else 0.25, 0.5],
        exact=[True, False],
        equal=pd.Series([equal, None], dtype=object),
        reason=[None, EVIL],
    )
    html = render([record("gan", value=1.0)], parity=table)
    assert EVIL not in html
    assert ("Every exact configuration is." in words(html)) == equal
    assert ("1 exact configurations differ from single" in words(html)) != equal
    assert "Inexact by design: local_sgd, since" in words(html)


def test_resharding_is_a_grid_and_a_lost_state_is_named():
    pairs = [("single", 1, "fsdp", 2), ("single", 1, "single", 1)]
    pairs += [("fsdp", 2, "fsdp", 2), ("fsdp", 2, "single", 1)]
    names = ["saved_under", "saved_ranks", "loaded_under", "loaded_ranks"]
    table = pd.DataFrame(pairs, columns=names).assign(
        topic="gan",
        model="dcgan",
        state_equal=[True] * 3 + [False],
        data_equal=True,
        difference=0.0,
    )
    found = words(render([record("gan", value=1.0)], resharding=table))
    assert "1 of 4 pairs do not bring back the state" in found
    assert "fsdp x 2 0 not equal" in found


def test_scaling_is_shown_beside_single():
    table = ranked(
        parallel=["single", "fsdp"],
        ranks=[1, 2],
        samples_per_s=[100.0, 150.0],
        step_ms=[10.0, 6.5],
        speedup=[1.0, 1.5],
        efficiency=[1.0, 0.75],
        sent_mb=[0.0, 2.0],
        state_mb=[8.0, 4.0],
        peak_memory_mb=[500.0, 480.0],
    )
    found = words(render([record("gan", value=1.0)], scaling=table))
    assert "fsdp 2 150 6.5 ms 1.5 75 % 2 MiB 4 MiB 0.5 480 MiB" in found


def test_throughput_reads_in_human_units():
    benchmark = pd.json_normalize(
        {
            "name": "test_throughput[vgg/vgg11]",
            "stats": {"median": 0.0545},
            "extra_info": {
                "samples_per_s": 1175.2,
                "peak_memory_mb": 1536.0,
                "flops_per_step": 3.67e9,
                "share_of_peak": 0.67,
                "share_of_makers_peak": 0.51,
            },
        }
    )
    html = own(render([record("vgg", value=1.0)], benchmark=benchmark))
    times = ("1,175", "54.5 ms", "1.5 GiB", "3.67 GFLOP")
    for shown in (">vgg/vgg11<", *times, "67 %", "51 % of the maker's"):
        assert shown in html.replace("1175<", "1,175<"), shown


def test_a_large_run_is_capped_with_a_note_and_stays_small():
    rng = np.random.default_rng(0)
    curve = {"step": list(range(1, 21)), "loss": [1.0] * 20, "lr": [0.1] * 20}
    records = [
        record(topic, f"m{model}", loss, float(rng.random()), seed=seed, curve=curve)
        for topic in ("gan", "rl")
        for model in range(10)
        for loss in ("ce", "mse", "mae")
        for seed in range(90)
    ]
    html = render(records)
    assert len(html.encode()) < 7e6
    assert "best 5,000 cells" in html and "400 more cells are in cells.csv" in html
    rows = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])["cells"]["rows"]
    assert sum(row[0].startswith("rl/") for row in rows) == len(rows) / 2 == 2500


ACTIONS = """<script>
Object.defineProperty(navigator, "clipboard", { value: undefined });
document.execCommand = () => {
  document.body.dataset.copied = document.activeElement.value;
  return true;
};
const act = (id, value, kind) => {
  const box = document.getElementById(id);
  box.value = value;
  box.dispatchEvent(new Event(kind));
};
setTimeout(() => {
  const body = document.body.dataset;
  body.wide = document.documentElement.scrollWidth > innerWidth;
  const heat = document.querySelector(".heat");
  const first = () => heat.querySelector(".plot").data[0].customdata.flat().join();
  const before = first();
  heat.querySelector("select").value = "1";
  heat.querySelector("select").dispatchEvent(new Event("change"));
  body.selected = first() !== before;
  act("filter", "VGG11 cosine", "input");
  act("status", "done", "input");
  const sort = document.querySelectorAll("#all th button")[3];
  sort.click(); sort.click();
  document.querySelector("#all button.copy").click();
}, 3000);
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [500, 1400])
def test_a_browser_draws_selects_filters_sorts_and_copies(tmp_path, width):
    (tmp_path / "index.html").write_text(page().replace("</body>", ACTIONS))
    dom = subprocess.run(
        [
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000"),
            *(f"--window-size={width},6000", "--dump-dom", f"file://{tmp_path}/index.html"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert dom.count('class="main-svg"') >= 4
    assert 'data-wide="false"' in dom and 'data-selected="true"' in dom
    table = dom.split('id="all"')[1]
    assert 'aria-sort="descending"' in table and "6 of 6 cells" in dom
    values = re.findall(
        r"<tr><td>vgg/vgg11\S+?</td><td>done</td><td>accuracy</td><td>(.*?)<", table
    )
    assert len(values) == 6 and values == sorted(values, reverse=True)
    assert re.search(r'data-copied="replay vgg/vgg11-\w+-cosine-single-s2"', dom)


@pytest.mark.parametrize("per_gpu", [1, 2])
def test_what_shared_a_gpu_is_not_judged_by_its_time(per_gpu):
    shared = {"environment": {"device": "H200", "per_gpu": per_gpu}, "baseline": {"score": 0.1}}
    cost = {"samples_per_s": 64.0, "peak_memory_mb": 16.0}
    records = [
        record("a", loss=loss, parallel=kind, value=value, seed=seed, cost=cost | {"train_s": s})
        | shared
        for loss, value, s in (("ce", 0.9, 9.0), ("mse", 0.9, 2.0))
        for kind in ("single", "local_sgd")
        for seed in range(2)
    ]
    html, alone = words(render(records)), per_gpu == 1
    assert ("trains faster than its 2 s" in html) == alone
    assert ("its training time is not known" in html) != alone
    assert ("2 trainings to a GPU, none of which is judged by its time" in html) != alone
    row = html.split("worst change parity difference")[1].split("Medians")[0].split()
    ratio, memory = row[4], row[9]
    assert (row[0], ratio, memory) == ("local_sgd", "1" if alone else "\u2013", "1"), row
