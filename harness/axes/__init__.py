"""The axes along which cells vary: losses, schedules and optimizers, parallel configurations."""
