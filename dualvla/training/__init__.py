"""Training: one loop, its losses, teachers and checkpoints."""
