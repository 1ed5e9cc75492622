"""Commands on runs' folders: write one's tables and page again, or compare two."""

from __future__ import annotations

import argparse
import sys

from harness.cell import UsageError


def report(chosen: argparse.Namespace) -> int:
    """Write a run's tables and page again, and print the page's path and what was damaged."""
    from harness.results import bounds
    from harness.results.report import write_report

    try:
        page = write_report(chosen.run, lambda line: print(f"decathlon: {line}", file=sys.stderr))
    except OSError as error:
        raise UsageError(f"{chosen.run} cannot be written to: {error.strerror}") from None
    print(bounds.printable(str(page)))
    return 0


def compare(chosen: argparse.Namespace) -> int:
    """Print how two runs compare, write it as JSON if asked to, and return the exit code."""
    from harness.results import bounds
    from harness.results.compare import of_folders, text

    if chosen.json and (chosen.json.suffix != ".json" or chosen.json.is_dir()):
        raise UsageError(f"--json {chosen.json} must be a file whose name ends in .json")
    folders = (chosen.baseline, chosen.candidate)
    comparison, unread = of_folders(*folders)
    for line in bounds.cut(unread):
        print(f"decathlon: {line}", file=sys.stderr)
    if chosen.json:
        text.write_json(chosen.json, comparison, *folders)
    if comparison.refused:
        raise UsageError(comparison.refused)
    print(bounds.printable("\n".join(text.lines(comparison))))
    return comparison.exit_code
