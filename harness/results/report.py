"""A run's tables and page, from what lies in its folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.cell import UsageError
from harness.files import write_atomically
from harness.results.store import Store


def _images(folder: Path, records: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    found = {r["id"]: folder / r["samples"]["grid"] for r in records if r.get("samples")}
    return {name: path.read_bytes() for name, path in found.items() if path.is_file()}


def _table(path: Path) -> Any:
    import pandas as pd

    return pd.read_csv(path) if path.exists() else None


def write_report(folder: Path) -> Path:
    """Tables and page from the records of a run. Raises UsageError if there are none."""
    import pandas as pd

    from harness.results import dashboard, tables

    store = Store(folder)
    records = [record.to_dict() for record in store]
    if not records:
        raise UsageError(f"{folder} holds no records: a run leaves them under {folder}/cells")
    found = tables.write(records, folder)
    benchmark = None
    if (folder / "benchmark.json").exists():
        loaded = json.loads((folder / "benchmark.json").read_text())
        benchmark = pd.json_normalize(loaded["benchmarks"])
    page = dashboard.render(
        found.cells,
        found.curves,
        found.summary,
        found.effects,
        benchmark,
        title=f"Decathlon: {folder.name}",
        images=_images(folder, records),
        improvement=found.improvement,
        **{name: _table(folder / f"{name}.csv") for name in ("parity", "scaling", "resharding")},
        transfer=found.transfer,
    )
    write_atomically(folder / "index.html", page.encode())
    return folder / "index.html"
