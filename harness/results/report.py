"""Write a run's tables and HTML report from the files in its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from harness.cell import UsageError
from harness.files import write_atomically
from harness.results import bounds
from harness.results.record import Record
from harness.results.store import Store

Found = TypeVar("Found")


def write_report(folder: Path, report: Callable[[str], None] = print) -> Path:
    """Write a run's tables and ``index.html`` from its records, and return the page's path.

    Tables of studies and pytest-benchmark's JSON are shown if they are in the folder. A damaged
    file is left as it is and named in a line, on the page and to ``report`` (the first 20 lines);
    all others are shown. ``report`` is told of outdated cells too. Raises UsageError if no record
    can be read, unless there is none but a benchmark.
    """
    from harness.results import dashboard, outdated, side_files, tables
    from harness.results.columns import STUDIES

    store = Store(folder)
    records = list(store)
    damaged = store.set_aside
    studies: dict[str, Any] = {
        name: _read(damaged, f"{folder / name}.csv", side_files.study, folder, name)
        for name in STUDIES
    }
    benchmark = _read(damaged, f"{folder / 'benchmark.json'}", side_files.benchmark, folder)
    if not records and (store.set_aside or benchmark is None):
        told = "".join(f"; {line}" for line in bounds.cut(damaged, 3))
        raise UsageError(f"{folder} holds no records: a run leaves them under {folder}/cells{told}")
    images = _images(folder, records, damaged)
    plain = [record.to_dict() for record in records]
    found = tables.write(plain, folder)._replace(benchmark=benchmark, **studies)
    lines = list(bounds.cut(damaged))
    page = dashboard.render(found, f"Decathlon: {bounds.line(folder.name)}", images, lines)
    write_atomically(folder / "index.html", page.encode())
    for line in (*lines, *outdated.lines(found.cells)):
        report(line)
    return folder / "index.html"


def _read(damaged: list[str], what: str, read: Callable[..., Found], *told: object) -> Found | None:
    """Return what ``read`` returns; None if there is no file, or a damaged one, which is named."""
    try:
        return read(*told)
    except FileNotFoundError:
        return None
    except ValueError as error:
        damaged.append(bounds.line(f"{what} is not shown ({error}): left as it is"))
        return None


def _images(folder: Path, records: Iterable[Record], damaged: list[str]) -> dict[str, bytes]:
    """Return by cell id the PNGs of generated samples that the records name."""
    from harness.results import side_files

    found = {}
    for record in records:
        if grid := record.samples.get("grid"):
            what = f"{grid}, the picture of {record.cell.id},"
            if data := _read(damaged, what, side_files.picture, folder, grid):
                found[record.cell.id] = data
    return found
