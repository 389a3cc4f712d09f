"""``python -m pneumo_edge``: the same as the console script ``pneumo-edge``."""

from pneumo_edge.cli import app

# The converters' child process imports this module again, under another name.
if __name__ == "__main__":
    app(prog_name="pneumo-edge")
