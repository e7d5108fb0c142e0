"""How teacher and students learn: batches, losses, the training loop."""
