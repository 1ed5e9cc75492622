"""Multi-task learning (note 99)."""
