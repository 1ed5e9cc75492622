"""Decathlon: ten topics of PyTorch practice as one experiment matrix."""
