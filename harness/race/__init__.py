"""Race recipes against each other, seed by seed, until the best are told apart from the rest."""
