"""What a cell can vary: losses, schedules, optimizers, parallel configurations."""
