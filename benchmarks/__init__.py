"""Measures model files. It does not depend on the training code."""
