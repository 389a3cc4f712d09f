"""Backbones, recipes, fitting and the operating point."""
