"""Many cells' trainings as one."""
