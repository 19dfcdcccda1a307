"""What happens beside the training: undoing, saving, watching, telling."""
