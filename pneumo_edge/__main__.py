"""``python -m pneumo_edge``: the same as the console script ``pneumo-edge``."""

import os
import signal

from pneumo_edge._util import parent_watch
from pneumo_edge.cli import app

# The converters' child process imports this module again, under another name.
if __name__ == "__main__":
    # The demo's commands end with it, and keep what they have finished.
    parent_watch.watch(os.environ.pop(parent_watch.VARIABLE, ""), signal.SIGTERM)
    app(prog_name="pneumo-edge")
