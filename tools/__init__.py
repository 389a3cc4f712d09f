"""Tools for this repository's own pages and measurements. They are not in the wheel."""
