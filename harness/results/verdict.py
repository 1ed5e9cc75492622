"""Verdicts of a comparison of two runs, and the exit code that a gate sees for each."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What a comparison found of a candidate run, held against a baseline run."""

    SAME = "same"
    BETTER = "better"
    WORSE = "worse"
    NOT_ENOUGH = "not enough evidence"  # no worse as far as its seeds or processes can tell
    NOT_WHOLE = "not whole"  # it lacks cells, and what is there is not worse
    NOT_COMPARABLE = "not comparable"  # the two measured different things

    @property
    def exit_code(self) -> int:
        """Return the exit code of ``python -m harness compare`` for this verdict."""
        return EXIT_CODES[self]


EXIT_CODES = {
    Verdict.SAME: 0,
    Verdict.BETTER: 0,
    Verdict.NOT_ENOUGH: 0,
    Verdict.WORSE: 1,
    Verdict.NOT_COMPARABLE: 2,
    Verdict.NOT_WHOLE: 3,
}

HELP = """\
The verdict of all rows is the first of these that holds, and decides the exit code:
  not comparable  2  other data, budget, evaluation or direction of a metric; bad input too
  worse           1  any row is worse: a cell trained before is failed or skipped now, a metric,
                     speed or memory is worse beyond chance, numbers no longer repeat, parity or a
                     checkpoint's check no longer holds
  not whole       3  nothing is worse, but the candidate has no record of cells that the baseline
                     trained: it was broken off, or trained a part on purpose (-k)
  better          0  a row is better
  not enough evidence
                  0  numbers changed, or speed may have, and seeds or processes are too few to say
                     for better or worse; the row says how small a difference they could have shown
  same            0  every row is the same, bit for bit or within a margin
Metrics, divergence, memory and speed are each to be wrong in 5 % of comparisons of equal code
at most:
docs/comparing.md says what was measured, and where it was more.
"""
