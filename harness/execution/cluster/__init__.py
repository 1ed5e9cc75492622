"""Executor that runs tasks on a Ray cluster."""
