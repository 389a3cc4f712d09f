"""Measures each unit alone for a long time, and tells whether and when it slows down, and whether the order changes."""
