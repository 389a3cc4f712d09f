"""``python -m pneumo_edge``: the same as the console script ``pneumo-edge``."""

import signal

from pneumo_edge._util import parent_watch
from pneumo_edge.cli import app

if __name__ == "__main__":
    # The demo's commands end with it, and keep what they have finished.
    parent_watch.watch(signal.SIGTERM)
    app(prog_name="pneumo-edge")
