"""Measures the prediction sets and the input check of model files."""
