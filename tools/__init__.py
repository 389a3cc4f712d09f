"""What only this repository's own pages and measurements need. It is not in the wheel."""
