"""Studies: measurements of parallel training and of speed, beside a run's cells."""
