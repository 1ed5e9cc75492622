"""All that is done for one cell: train, evaluate, save, audit."""
