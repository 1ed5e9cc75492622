"""A run's progress: on pytest's terminal, past its capture of output, and for scripts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import Any

import pytest
from tqdm import tqdm

from harness.runs import Run

UP, RIGHT = "\x1b[A", "\x1b[{}C"  # of the cursor, as terminals take it
FORM = "{n_fmt} of {total_fmt} cells |{bar:10}| {desc}"
NARROW = "{n_fmt} of {total_fmt} cells, {desc}"  # where the time left would not fit beside a bar


class Screen:
    """Shows a run's progress while tests wait for it, which is when pytest captures output.

    On a terminal a line renews itself; elsewhere, as in a log, each cell gets a line at once.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._capture: Any = config.pluginmanager.get_plugin("capturemanager")
        self._bar: tqdm | None = None

    def show(self, run: Run) -> None:
        """Have the run report here; without a terminal reporter, nowhere."""
        run.report = self.line
        moves = os.environ.get("TERM") != "dumb"  # whose cursor goes nowhere but on
        if self._reporter is not None and self._reporter.isatty and moves:
            run.stand = self.stand

    def line(self, text: str) -> None:
        """Show a line for good."""
        self.clear()
        if self._reporter is not None:
            with self._uncaptured():
                self._reporter.ensure_newline()
                if self._reporter._tw.width_of_current_line:  # dots, under -q
                    self._reporter.write_line("")
                self._reporter.write_line(text)
                self._reporter.flush()

    def stand(self, done: int, total: int, text: str) -> None:
        """Show where the run stands, below what pytest wrote last."""
        with self._uncaptured():
            if self._bar is None:
                print(flush=True)
            self._bar = _renewed(self._bar, done, total, text)

    def clear(self) -> None:
        """Take the line away and go back to where pytest was, since it goes on writing there."""
        if self._bar is not None:
            column = self._reporter._tw.width_of_current_line
            with self._uncaptured():
                self._bar.close()
                print(UP + (RIGHT.format(column) if column else ""), end="", flush=True)
            self._bar = None

    @contextmanager
    def _uncaptured(self) -> Iterator[None]:
        if self._capture is None:
            yield
            return
        with self._capture.global_and_fixture_disabled():
            yield


class Console:
    """Shows the progress of a run that a script or a notebook has started.

    In a terminal and in a notebook a line renews itself; elsewhere each cell gets a line.
    """

    def __init__(self, run: Run) -> None:
        self._bar: tqdm | None = None
        run.report = self.line
        terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        if terminal or "ipykernel" in sys.modules:
            run.stand = self.stand

    def line(self, text: str) -> None:
        """Show a line for good, above the one that renews itself."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def stand(self, done: int, total: int, text: str) -> None:
        """Show where the run stands."""
        self._bar = _renewed(self._bar, done, total, text)

    def clear(self) -> None:
        """Take the line that renews itself away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _renewed(bar: tqdm | None, done: int, total: int, text: str) -> tqdm:
    """Return the line that renews itself as it now stands, made if there was none."""
    columns = get_terminal_size().columns - 1
    if bar is None:
        # without a size tqdm shows nothing in a terminal that does not know its own
        size = {"ncols": columns, "nrows": 20}
        bar = tqdm(bar_format=FORM, leave=False, file=sys.stdout, **size)
    bar.ncols, bar.n, bar.total = columns, done, total
    fits = len(FORM.format(n_fmt=done, total_fmt=total, bar="", desc=text)) <= columns
    bar.bar_format = FORM if fits else NARROW
    bar.set_description_str(text)
    return bar
