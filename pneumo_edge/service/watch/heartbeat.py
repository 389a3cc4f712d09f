"""Tells that the watch is alive: a file, Prometheus's metrics in a file, and systemd."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumo_edge._util import files
from pneumo_edge.runtime.identity import PredictorIdentity

if TYPE_CHECKING:
    from pneumo_edge.service.metrics import Metrics

#: How often it tells, in seconds.
SECONDS = 5.0


class Heartbeat:
    """Counts files, and tells that the watch is alive.

    Args:
        predictor: The identity of the classifier.
        file: A file for the state as JSON, or None.
        metrics: A file for metrics in Prometheus's text format, or None; it takes prometheus-client.
    """

    def __init__(self, predictor: PredictorIdentity, file: Path | None, metrics: Path | None) -> None:
        self._file, self._metrics_file = file, metrics
        self._told_at = -SECONDS
        self.waiting = self.classified = self.failed = 0
        self._problems: dict[str, str] = {}
        self._metrics: Metrics | None = None
        if metrics:
            from pneumo_edge.service.metrics import Metrics

            gauges = {
                ("watch_waiting", "Files that wait in memory."): lambda: float(self.waiting),
                ("watch_failed", "Files that could not be classified, since the start."): lambda: float(self.failed),
                ("watch_paused", "1 while something keeps the watch from its work."): lambda: float(bool(self.problem)),
            }
            self._metrics = Metrics(predictor, gauges)

    @property
    def problem(self) -> str:
        """What keeps the watch from its work; "" while nothing does."""
        return "; ".join(self._problems.values())

    def hinder(self, what: str, problem: str) -> bool:
        """Note what keeps a part of the watch from its work.

        Args:
            what: The part.
            problem: What keeps it; "" where nothing does any longer.

        Returns:
            Whether it was not so before.
        """
        before = self._problems.pop(what, "")
        if problem:
            self._problems[what] = problem
        return problem != before

    def count(self, verdict: Mapping[str, Any]) -> None:
        """Count a file by its verdict."""
        if "error" in verdict:
            self.failed += 1
            return
        self.classified += 1
        if self._metrics:
            self._metrics.count_prediction(verdict)

    def tell(self, now: bool = False) -> None:
        """Tell, if it is time to.

        Args:
            now: Whether it is in any case.
        """
        if not now and time.monotonic() - self._told_at < SECONDS:
            return
        self._told_at = time.monotonic()
        notify(f"WATCHDOG=1\nSTATUS={self._status()}")
        # On a full disk, or in a folder that has gone, the files grow old, and that tells as much.
        with contextlib.suppress(OSError):
            if self._file:
                files.write_text(self._file, json.dumps(self._state()) + "\n")
            if self._metrics and self._metrics_file:
                files.write_text(self._metrics_file, self._metrics.text().decode())

    def _state(self) -> dict[str, Any]:
        return {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "process": os.getpid(),
            "waiting": self.waiting,
            "classified": self.classified,
            "failed": self.failed,
            "problem": self.problem or None,
        }

    def _status(self) -> str:
        return self.problem or f"{self.classified} classified, {self.failed} failed, {self.waiting} waiting"


def notify(text: str) -> None:
    """Tell systemd the state of the service, where it started this process and asks for that (``sd_notify(3)``)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
