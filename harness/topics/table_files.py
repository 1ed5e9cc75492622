"""Read a table's file as it is: its kind, encoding and separator are found out, and said."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from harness.cell import UsageError
from harness.topics.damage import damage, first_bytes

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
SEPARATORS = (",", ";", "\t", "|")
SAMPLE = 1 << 20  # bytes that the separator is found from
GZIP = b"\x1f\x8b"
ZIP = b"PK\x03\x04"  # Excel's workbooks too
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class TableFile(NamedTuple):
    """What a file holds: a column for each name, as text if it is a text file.

    separator: between the fields of a line, "" in a file that has none. notes: what to say of how
    it was read.
    """

    frame: pd.DataFrame
    separator: str
    notes: tuple[str, ...]


def read(path: Path) -> TableFile:
    """Read a CSV, TSV (either may be gzipped) or Parquet file.

    Raises UsageError for a file that is none, has lines of more fields than its header, or a name
    twice.
    """
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise UsageError(f"table {path} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    parquet = name.endswith(".parquet")
    wrong = damage(path)
    if wrong and not (parquet and path.is_dir()):
        raise UsageError(f"table {path} {wrong}")
    try:
        read = _read_parquet(path) if parquet else _read_text(path)
    except UsageError:
        raise
    except Exception as error:  # pandas and pyarrow raise over twenty types for a bad file
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"table {path} cannot be read: {first}") from None
    twice = [repr(name) for name, count in Counter(read.frame.columns).items() if count > 1]
    if twice:
        raise UsageError(
            f"table {path}: more than one column is named {', '.join(twice)}: rename or remove"
        )
    return read


def _read_parquet(path: Path) -> TableFile:
    import pyarrow.parquet as pq

    names = pq.ParquetDataset(path).schema.names
    if len(set(names)) < len(names):  # pandas does not read such a file
        return TableFile(pd.DataFrame(columns=names), "", ())
    frame = pd.read_parquet(path)
    notes = []
    if not isinstance(frame.index, pd.RangeIndex) or frame.index.name is not None:
        own = ", ".join(repr(name) for name in frame.index.names if name is not None)
        notes = [f"the file's index {own} is left out".replace("  ", " ")]
    frame.columns = pd.Index([str(name) for name in frame.columns], dtype=object)
    return TableFile(frame.reset_index(drop=True), "", tuple(notes))


def _read_text(path: Path) -> TableFile:
    """Read a CSV or TSV file; all fields stay text, an empty one is ""."""
    head = first_bytes(path, 4)
    if head == ZIP:
        raise UsageError(f"table {path} is a ZIP archive or an Excel workbook: save it as CSV")
    packed = head.startswith(GZIP)
    opened = gzip.open if packed else open
    with opened(path, "rb") as file:
        sample = file.read(SAMPLE)
    encodings = ["utf-16"] if sample.startswith(UTF_16) else ["utf-8-sig", "cp1252", "latin-1"]
    separator = find_separator(sample.decode(encodings[0], errors="replace"))
    for encoding in encodings:
        try:
            frame = pd.read_csv(
                path,
                sep=separator,
                encoding=encoding,
                compression="gzip" if packed else None,
                header=None,  # pandas would rename columns of one name, and take names for rows
                dtype=str,
                keep_default_na=False,
            )
            break
        except UnicodeDecodeError:
            continue
    notes = []
    if encoding != "utf-8-sig":
        notes.append(f"read as {encoding}, since it is not UTF-8")
    if separator != ("\t" if ".tsv" in path.name.lower() else ","):
        notes.append(f"read with {separator!r} between columns")
    names = [str(name).strip() for name in frame.iloc[0]]
    frame.columns = pd.Index([n or f"Unnamed: {i}" for i, n in enumerate(names)], dtype=object)
    return TableFile(frame.iloc[1:].reset_index(drop=True), separator, tuple(notes))


def find_separator(text: str) -> str:
    """Return the separator under which most lines have as many fields as the first one.

    Under equal ones, that of most fields; a comma for text of a single column.
    """
    whole = text if len(text) < SAMPLE // 4 else text[: text.rfind("\n")]

    def fit(separator: str) -> tuple[float, int]:
        try:
            rows = [row for row in csv.reader(io.StringIO(whole), delimiter=separator) if row]
        except csv.Error:
            return 0.0, 0
        width = len(rows[0]) if rows else 0
        equal = sum(len(row) == width for row in rows)
        return (equal / len(rows), width) if width > 1 else (0.0, 0)

    return max(SEPARATORS, key=fit)
