"""Measurements beside a run's cells."""
