"""A trained model to verified device files."""
