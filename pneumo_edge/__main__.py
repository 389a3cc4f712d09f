"""``python -m pneumo_edge``: the same as the console script ``pneumo-edge``."""

from pneumo_edge.cli import app

app(prog_name="pneumo-edge")
