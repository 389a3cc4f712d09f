"""The log of the service: one line for each event, with a limit on repeated lines."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Hashable

#: Lines of one kind that are written at once, and then per second. At 100 bytes per line, each kind stays below 70 kB
#: per minute.
BURST, PER_SECOND = 100, 10
#: Most kinds with a budget of their own; all further kinds share one.
_KINDS = 12


def set_up() -> None:
    """Write the log to standard error, with a bound on its lines."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    # uvicorn writes lines of its own at its start and end, and about requests that are no HTTP.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Sparing())


class _Budget:
    def __init__(self, now: float) -> None:
        self.lines = float(BURST)
        self.left_out = 0
        self._at = now

    def take(self, now: float, cost: float) -> bool:
        self.lines = min(BURST, self.lines + (now - self._at) * PER_SECOND)
        self._at = now
        if self.lines < cost:
            self.left_out += 1
            return False
        self.lines -= cost
        return True


class Sparing(logging.Filter):
    """Passes a limited number of lines of each kind, and reports how many were omitted.

    A kind is a message's template, plus the attribute ``kind`` of the record if it has one. A message of several lines
    counts as several.
    """

    def __init__(self) -> None:
        super().__init__()
        self._budgets: dict[Hashable, _Budget] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written."""
        now = time.monotonic()
        kind: Hashable = (record.msg, getattr(record, "kind", None))
        if kind not in self._budgets and len(self._budgets) >= _KINDS:
            kind = None
        budget = self._budgets.setdefault(kind, _Budget(now))
        text = record.getMessage()
        if record.exc_info:
            # The text of an exception may quote what was sent.
            text += f" ({getattr(record.exc_info[0], '__name__', 'an exception')})"
            record.exc_info = record.exc_text = None
        if not budget.take(now, 1 + text.count("\n")):
            return False
        if budget.left_out:
            text += f" ({budget.left_out:,} more lines like this one were omitted)"
            budget.left_out = 0
        record.msg, record.args = text, None
        return True
