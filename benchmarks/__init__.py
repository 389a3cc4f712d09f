"""Measures model files; knows nothing of training."""
