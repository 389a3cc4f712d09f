"""Metrics with intervals, in numpy alone."""
