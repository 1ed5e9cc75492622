"""Sink for TensorBoard: curves, final figures and hyper-parameters of each cell.

``pytest -p harness.sinks.tensorboard`` leaves them in the run's folder:
``tensorboard --logdir results/quick/tensorboard``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import files
from harness.cell import Status
from harness.results.record import Record
from harness.runs import Run
from harness.sinks import contents


def pytest_configure(config: pytest.Config) -> None:
    """End pytest with one line where TensorBoard is not installed."""
    contents.require("tensorboard")


def write(record: Record, run: Run) -> None:
    """Write a record's events to ``tensorboard/TOPIC/CELL`` in the run's folder.

    They are there whole or not at all, and take the place of an earlier training's; those of the
    same record are left as they are. A skipped cell has none.
    """
    if record.status is Status.SKIPPED:
        return
    folder = Path(run.folder, "tensorboard", record.cell.id)
    suffix = "." + re.sub(r"\W", "", f"{record.fingerprint}{record.started}")
    if list(folder.glob(f"*{suffix}")):
        return
    temporary = Path(run.folder, ".tensorboard.tmp")  # where TensorBoard does not look
    files.remove(temporary)
    try:
        _write_events(temporary, suffix, record, run)
        folder.parent.mkdir(parents=True, exist_ok=True)
        files.replace(temporary, folder)
    finally:
        files.remove(temporary)


def _write_events(folder: Path, suffix: str, record: Record, run: Run) -> None:
    """Write all that TensorBoard shows of a record to a file in a folder, its name's end given."""
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    with SummaryWriter(str(folder), filename_suffix=suffix) as writer:
        for name, points in contents.curves(record):
            for step, value in points:
                writer.add_scalar(name, value, step)
        for name, text in contents.tags(record).items():
            writer.add_text(name, text)
        figures = contents.figures(record)
        for name, value in figures.items():
            writer.add_scalar(name, value)
        for summary in hparams(contents.settings(record, run.topic(record.cell)), figures):
            writer.file_writer.add_summary(summary)  # add_hparams would open a folder of its own


pytest_decathlon_record = write
