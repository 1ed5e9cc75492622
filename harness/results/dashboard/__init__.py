"""Render a run's DataFrames as one HTML page that works offline.

It knows no records and imports no torch.
"""

from harness.results.dashboard.page import render

__all__ = ["render"]
