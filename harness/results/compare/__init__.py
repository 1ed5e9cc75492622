"""Compare two runs: one verdict over cells, metrics, speed, memory, checkpoints and parity.

``python -m harness compare BASELINE CANDIDATE`` exits with 0 for *same*, *better* and *not enough
evidence*, 1 for *worse*, 2 for *not comparable* and for bad input, 3 for *not whole*;
``harness.results.verdict`` says what each means.
"""

from harness.results.compare.comparable import NotComparable
from harness.results.compare.comparison import Comparison, compare
from harness.results.compare.folders import of_folders

__all__ = ["Comparison", "NotComparable", "compare", "of_folders"]
