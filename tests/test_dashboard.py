"""The page: escaped, offline, and drawn by a real browser."""

import re
import shutil
import subprocess

import pytest
from test_compare import frame

from harness import dashboard, effects, tables
from harness.cell import Cell
from harness.record import Record

EVIL = "<script>alert(1)</script>"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def page():
    skipped = Record(Cell("vgg", "vgg11", "ce", "adam"), "f", "skipped", reason=EVIL)
    cells = frame()
    extra = tables.cells([skipped.to_dict()])
    import pandas as pd

    cells = pd.concat([cells, extra], ignore_index=True)
    curves = tables.curves(
        [
            {"id": i, "curve": {"step": [1, 2], "loss": [1.0, 0.5], "lr": [0.1, 0.1]}}
            for i in cells.id
        ]
    )
    return dashboard.render(
        cells, curves, tables.summary(cells), effects.effects(cells), None, title=EVIL
    )


def test_text_from_outside_is_escaped_and_nothing_is_fetched():
    html = page()
    assert EVIL not in html and "&lt;script&gt;alert(1)" in html
    assert not re.search(r"<(script|img|link)[^>]+(src|href)=", html)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_draws_the_charts_and_sorts(tmp_path):
    click = "<script>document.querySelectorAll('#all th button')[0].click()</script></body>"
    (tmp_path / "index.html").write_text(page().replace("</body>", click))
    dom = subprocess.run(
        [
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000"),
            *("--dump-dom", f"file://{tmp_path}/index.html"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert dom.count('class="main-svg"') >= 4
    assert 'aria-sort="ascending"' in dom
    ids = re.findall(r"<td>(vgg/\S+?)</td>", dom.split('id="all"')[1])
    assert len(ids) == 6 and ids == sorted(ids)
