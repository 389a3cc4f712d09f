"""Data sets of chest X-rays: sources, audit, splits, tensors."""
