"""Write a run's tables and HTML report from the files in its folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.cell import UsageError
from harness.files import write_atomically
from harness.results.store import Store


def _images(folder: Path, records: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    """Return by cell id the PNGs of generated samples that the records name and that exist."""
    found = {r["id"]: folder / r["samples"]["grid"] for r in records if r.get("samples")}
    return {name: path.read_bytes() for name, path in found.items() if path.is_file()}


def _table(path: Path) -> Any:
    """Read a study's CSV file as a DataFrame; None if there is none."""
    import pandas as pd

    return pd.read_csv(path) if path.exists() else None


def write_report(folder: Path) -> Path:
    """Write a run's tables and ``index.html`` from its records, and return the page's path.

    Tables of studies and pytest-benchmark's JSON are shown if they are in the folder. Raises
    UsageError if there are no records.
    """
    from harness.results import dashboard, tables

    store = Store(folder)
    records = [record.to_dict() for record in store]
    if not records:
        raise UsageError(f"{folder} holds no records: a run leaves them under {folder}/cells")
    studies = {name: _table(folder / f"{name}.csv") for name in ("parity", "scaling", "resharding")}
    found = tables.write(records, folder)._replace(benchmark=_benchmark(folder), **studies)
    page = dashboard.render(found, f"Decathlon: {folder.name}", _images(folder, records))
    write_atomically(folder / "index.html", page.encode())
    return folder / "index.html"


def _benchmark(folder: Path) -> Any:
    """Read pytest-benchmark's JSON as a DataFrame, a row per benchmark; None if there is none."""
    import pandas as pd

    path = folder / "benchmark.json"
    return pd.json_normalize(json.loads(path.read_text())["benchmarks"]) if path.exists() else None
