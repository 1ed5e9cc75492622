"""Read what lies in a run's folder beside its records: studies' tables, benchmarks, pictures.

They raise ValueError for a file that is damaged. FileNotFoundError says that there is no table.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from harness.files import write_atomically
from harness.results import bounds
from harness.results.columns import LATER, MAY_BE_EMPTY, STUDIES

ROWS = 5_000
TABLE_BYTES = 4_000_000
PICTURE_BYTES = 6_000_000
SIDE = 20_000  # pixels
PNG = b"\x89PNG\r\n\x1a\n"
RATES = (
    *("samples_per_s", "step_ms", "peak_memory_mb", "flops_per_step", "share_of_peak"),
    "share_of_makers_peak",
)


def study(folder: Path, name: str) -> pd.DataFrame:
    """Read the table of a study, such as ``scaling``: the columns of ``STUDIES``.

    What an earlier version did not write is as LATER says.
    """
    kinds = STUDIES[name]
    data = bounds.read_bytes(folder / f"{name}.csv", TABLE_BYTES)
    if not data.endswith(b"\n"):
        raise ValueError("its last line is cut, or it is empty")
    try:
        frame = pd.read_csv(
            io.BytesIO(data),
            usecols=kinds.__contains__,  # type: ignore[arg-type]
            dtype=kinds,  # type: ignore[arg-type]
            keep_default_na=False,  # null and nan are names as any other
            na_values=[""],
        )
    except (OverflowError, TypeError) as error:
        raise ValueError(str(error)) from None
    if len(frame) > ROWS:
        raise ValueError(f"it has {len(frame):,} rows, {ROWS:,} are allowed")
    for column, value in LATER.get(name, {}).items():
        if column not in frame:
            frame[column] = value
    if missing := [column for column in kinds if column not in frame]:
        raise ValueError(f"it has no column {missing[0]}")
    frame = frame[list(kinds)]
    for column in [column for column, kind in kinds.items() if kind == "str"]:
        if column not in MAY_BE_EMPTY and frame[column].isna().any():
            raise ValueError(f"{column} is missing in a row")
        frame[column] = frame[column].map(bounds.text, na_action="ignore").astype("str")
    return frame


def keep(
    folder: Path,
    name: str,
    rows: pd.DataFrame,
    about: Mapping[str, str],
    report: Callable[[str], None],
) -> None:
    """Write rows to a study's CSV file, in the place of those about the same; others stay.

    about: by column, the values that all these rows have; what an earlier version did not write
    tells no rows apart. A file that is damaged is moved aside, and named.
    """
    path, whole = folder / f"{name}.csv", rows
    try:
        old = study(folder, name)
        known = old[list(about)].fillna("")
        other = ((known != pd.Series(about)) & (known != "")).any(axis=1)
        parts = [part for part in (old[other], rows) if len(part)]
        whole = pd.concat(parts, ignore_index=True) if parts else rows
    except FileNotFoundError:
        pass
    except ValueError as error:
        aside = path.with_name(f"{name}.{uuid.uuid4().hex[:8]}.damaged")
        path.rename(aside)
        report(f"{path} is damaged ({error}): moved to {aside}")
    write_atomically(path, whole.to_csv(index=False, lineterminator="\n").encode())


@dataclass
class _Benchmark:
    """The types of what is read of one of pytest-benchmark's results."""

    name: str
    stats: dict[str, Any] = field(default_factory=dict)
    extra_info: dict[str, Any] = field(default_factory=dict)


def benchmark(folder: Path) -> pd.DataFrame:
    """Read pytest-benchmark's ``benchmark.json``: a row per benchmark.

    Columns: name, ``stats.median`` in seconds, and ``extra_info.*``.
    """
    try:
        values = json.loads(bounds.read_bytes(folder / "benchmark.json"))
        found = values.get("benchmarks") if isinstance(values, dict) else None
        bounds.check(found)
        rows = []
        for one in msgspec.convert(found, list[_Benchmark]):
            rates = {name: one.extra_info.get(name) for name in RATES}
            median = one.stats.get("median")
            msgspec.convert([median, *rates.values()], list[float | None])
            rows.append(
                bounds.texts({"name": one.name, "stats.median": median})
                | {f"extra_info.{name}": bounds.texts(v) for name, v in one.extra_info.items()}
            )
    except RecursionError as error:
        raise ValueError(str(error)) from None
    except msgspec.ValidationError as error:
        raise ValueError(f"it is none of pytest-benchmark's: {error}") from None
    if len(rows) > ROWS:
        raise ValueError(f"it has {len(rows):,} benchmarks, {ROWS:,} are allowed")
    return pd.DataFrame(rows)


def picture(folder: Path, name: str) -> bytes:
    """Read a PNG by its path below the run's folder. A path that leads out of it is refused."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError("it lies outside the run's folder")
    try:
        data = bounds.read_bytes(path, PICTURE_BYTES)
    except FileNotFoundError:
        raise ValueError("there is no such file") from None
    size = [int.from_bytes(data[at : at + 4], "big") for at in (16, 20)]
    if not data.startswith(PNG) or data[12:16] != b"IHDR" or b"IEND" not in data[-12:]:
        raise ValueError("it is no whole PNG")
    if not all(0 < side <= SIDE for side in size):
        raise ValueError(f"it has {size[0]:,} x {size[1]:,} pixels")
    return data
