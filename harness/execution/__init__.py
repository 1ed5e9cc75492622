"""Executors that run trials: local processes, torchrun's ranks, or a Ray cluster."""
