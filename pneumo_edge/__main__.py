"""``python -m pneumo_edge``: the same as the console script ``pneumo-edge``."""

import os
import signal

from pneumo_edge import lifeline
from pneumo_edge.cli import app

# The converters' child process imports this module again, under another name.
if __name__ == "__main__":
    # The demo's commands end with it, and keep what they have finished.
    lifeline.watch(os.environ.pop(lifeline.VARIABLE, ""), signal.SIGTERM)
    app(prog_name="pneumo-edge")
