"""Hold one run against another, from a script or a notebook."""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path

from harness.api.results import Results
from harness.cell import UsageError
from harness.results import bounds
from harness.results.compare import Comparison, of_folders


def compare(
    baseline: str | PathLike[str] | Results, candidate: str | PathLike[str] | Results
) -> Comparison:
    """Compare a candidate run with a baseline run, as ``decathlon compare`` does.

    Each is a run's folder or its results, which are what the folder holds by now. The comparison
    has a ``verdict``, an ``exit_code`` and a ``table``, and prints as the command prints it. Warns
    of files that cannot be read. Raises UsageError for a folder without cells, and for twice the
    same one.
    """
    if _folder(baseline).resolve() == _folder(candidate).resolve():
        raise UsageError(
            f"both runs are of {_folder(candidate)}, which holds the later one: train one of them "
            "into another, run(..., folder=...)"
        )
    found, unread = of_folders(_folder(baseline), _folder(candidate))
    for line in bounds.cut(unread):
        warnings.warn(line, stacklevel=2)
    return found


def _folder(run: str | PathLike[str] | Results) -> Path:
    return run.folder if isinstance(run, Results) else Path(run)
