"""Train many cells at once, as rows of one matrix under ``torch.func.vmap``."""
