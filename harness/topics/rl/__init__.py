"""Deep reinforcement learning (note 97)."""
