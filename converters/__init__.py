"""Converts a trained model to verified device files."""
