"""What people see of a run while it goes on: in a terminal, and in a log."""

import os
import pty
import re
import subprocess
import sys

import pytest
from test_plugin import CONFTEST, EXPERIMENT

from harness import screen

COMMAND = [sys.executable, "-m", "pytest", "--profile", "smoke", "-p", "no:xdist"]
FIRST = r"cells to train: 3; reused: 0 of 3; skipped: 0"


@pytest.fixture
def project(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_own=EXPERIMENT)
    return pytester.path


def failing(project):
    conftest = project / "conftest.py"
    conftest.write_text(conftest.read_text().replace("[Toy()]", '[Toy("raise", at=5)]'))


def in_a_terminal(project, *arguments):
    """All that pytest writes to a pseudo-terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=project, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 65536):
            written += part
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    process.wait()
    return written.decode()


@pytest.mark.parametrize("verbosity", ["-q", "-s"])
def test_in_a_log_each_cell_has_a_line_as_soon_as_it_ends(project, verbosity):
    """Read through a pipe: the first line is there while the run still goes on."""
    process = subprocess.Popen(
        [*COMMAND, verbosity],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if re.match(r"\[1/3\]", lines[-1]):
            assert process.poll() is None and not any("passed" in one for one in lines)
    assert process.wait() == 0
    said = [line for line in lines if re.match(r"\[\d/3\] toy/\S+ done mse [\d.]+ \(.+ left", line)]
    assert [line[:5] for line in said] == ["[1/3]", "[2/3]", "[3/3]"], "\n".join(lines)
    assert any(re.search(FIRST, line) for line in lines)
    assert "\r" not in "".join(lines) and re.search(r"3 passed", lines[-1])


def test_in_a_log_what_is_reused_is_said(project):
    for expected in ("to train: 3; reused: 0 of 3", "to train: 0; reused: 3 of 3"):
        ended = subprocess.run(COMMAND, cwd=project, capture_output=True, text=True)
        assert ended.returncode == 0 and expected in ended.stdout


def test_in_a_terminal_one_line_renews_itself(project):
    written = in_a_terminal(project)
    shown = re.findall(r"(\d) of 3 cells \|.{10}\| (\d) running, (\d) failed, (.+?left)", written)
    assert {"0", "1", "2"} <= {done for done, *_ in shown}, written
    assert {running for _, running, *_ in shown} > {"1"}
    assert {failed for _, _, failed, _ in shown} == {"0"}
    assert any(re.fullmatch(r"about \d+ s left", left) for *_, left in shown)
    assert "\r" in written and "[1/3]" not in written and "3 passed" in written


def test_in_a_terminal_faults_have_lines_of_their_own(project):
    failing(project)
    written = in_a_terminal(project)
    faults = re.findall(r"\[\d/3\] toy/\S+ failed .*RuntimeError: a planted error", written)
    assert len(faults) == 3, written
    assert re.search(r"[12] of 3 cells .* [12] failed", written)


def test_captured_output_of_tests_is_still_captured(project):
    (project / "test_own.py").write_text(EXPERIMENT + "    print('said by a test')\n")
    assert "said by a test" not in in_a_terminal(project)
    ended = subprocess.run([*COMMAND, "-rP"], cwd=project, capture_output=True, text=True)
    assert ended.stdout.count("said by a test") == 3


def test_a_study_without_cells_is_seen_too(project):
    (project / "test_own.py").write_text(
        "def test_alone(decathlon_run):\n    decathlon_run.report('said by a study')\n"
    )
    ended = subprocess.run(COMMAND, cwd=project, capture_output=True, text=True)
    assert ended.returncode == 0 and ended.stdout.count("said by a study") == 1


@pytest.mark.parametrize(("columns", "bar"), [(80, True), (60, False)])
def test_the_time_left_is_seen_whole_also_where_no_bar_fits_beside_it(
    columns, bar, monkeypatch, capsys
):
    monkeypatch.setattr(screen, "get_terminal_size", lambda: os.terminal_size((columns, 20)))
    text = "2 running, 0 failed, about 12 minutes left"
    line = screen._renewed(None, 3, 18, text)
    shown = capsys.readouterr().out.split("\r")[-1]
    line.close()
    assert text in shown and shown.startswith("3 of 18 cells") and ("|" in shown) == bar
