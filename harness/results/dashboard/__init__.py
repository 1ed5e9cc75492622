"""DataFrames -> one HTML page that works offline. Knows no records and imports no torch."""

from harness.results.dashboard.page import render

__all__ = ["render"]
