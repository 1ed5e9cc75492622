"""Which cells, and what must hold of them; ``test_*.py`` travel in the package."""
