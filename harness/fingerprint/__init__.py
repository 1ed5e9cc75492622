"""Hash what decides a cell's numbers: on one machine, equal fingerprints mean equal numbers.

In it are the cell and its budget, the data, versions and machine (``parts``), the code of the
harness and of topics (``code``) with all that this imports (``imported``), and the values that it
takes along (``values``).
"""

from harness.fingerprint.code import (
    code_hash,
    code_of,
    forget,
    lasting_hash,
    topic_hash,
    untold,
)
from harness.fingerprint.parts import counted, fingerprint

__all__ = [
    "code_hash",
    "code_of",
    "counted",
    "fingerprint",
    "forget",
    "lasting_hash",
    "topic_hash",
    "untold",
]
