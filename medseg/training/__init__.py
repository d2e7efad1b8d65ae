"""Learning: losses, schedules, checkpoints and the loop that a person can read from top to bottom."""
