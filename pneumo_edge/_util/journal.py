"""Saves the finished results of a long job, until the final file is written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pneumo_edge.errors import ResultsError


class Journal:
    """JSON lines in ``FILE.partial``: first a head that identifies the job, then the finished results.

    Each line is written at once. So a process can be killed at any moment: the finished results are saved, and the next
    run resumes after them.

    Args:
        target: The file that the job writes in the end.
        holds: What the lines are, for messages: "results".
        basis: What must be the same to resume, for messages: "model or engine".
    """

    def __init__(self, target: Path, holds: str, basis: str) -> None:
        self.path = target.with_name(f"{target.name}.partial")
        self._holds, self._basis = holds, basis

    def begin(self, head: Any, resume: bool, is_next: Callable[[int, bytes], bool]) -> int:
        """Start, or resume an interrupted run.

        Args:
            head: A JSON document that identifies the job.
            resume: Resume an interrupted run.
            is_next: Whether a line (its number from 0, and its bytes without the end) belongs to this run. The first
                line that does not, or that is incomplete, is removed with all lines after it.

        Returns:
            The number of results that are kept.

        Raises:
            ResultsError: There are results of an interrupted run, and ``resume`` is False or it began with other
                settings.
            OSError: The file cannot be written.
        """
        first = _line(head)
        kept = end = 0
        if self._has_results():
            if not resume:
                raise ResultsError(
                    f"{self.path} contains the {self._holds} of an interrupted run",
                    "no such file, or --resume",
                    "Give --resume to continue, or delete the file",
                )
            kept, end = self._find_end(first, is_next)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as stream:
            stream.truncate(end)
        if not end:
            self._append(first)
        return kept

    def append(self, document: Any) -> None:
        """Keep a JSON document.

        Raises:
            OSError: The disk is full; the line may be cut short.
        """
        self._append(_line(document))

    def documents(self) -> Iterator[Any]:
        """All documents but the first, read as they are needed."""
        with self.path.open("rb") as stream:
            yield from map(json.loads, islice(stream, 1, None))

    def remove(self) -> None:
        """Delete the file, when what it was for has been written."""
        self.path.unlink()

    def remove_if_empty(self) -> None:
        """Delete the file where it has no results, when the job has failed."""
        if not self._has_results():
            self.path.unlink(missing_ok=True)

    def _has_results(self) -> bool:
        try:
            with self.path.open("rb") as stream:
                return [line[-1:] for line in islice(stream, 2)] == [b"\n", b"\n"]
        except FileNotFoundError:
            return False

    def _find_end(self, head: bytes, is_next: Callable[[int, bytes], bool]) -> tuple[int, int]:
        with self.path.open("rb") as stream:
            if stream.readline() != head:
                raise ResultsError(
                    f"{self.path} contains {self._holds} of another {self._basis}, or of another version of it",
                    f"the {self._basis} of the interrupted run",
                    "Give that, or delete the file",
                )
            kept, end = 0, stream.tell()
            for line in stream:
                if not line.endswith(b"\n") or not is_next(kept, line[:-1]):
                    break
                kept, end = kept + 1, end + len(line)
        return kept, end

    def _append(self, line: bytes) -> None:
        try:
            with self.path.open("ab", buffering=0) as stream:
                while line:
                    line = line[stream.write(line) :]
        except OSError as error:
            error.filename = os.fspath(self.path)
            raise


def _line(document: Any) -> bytes:
    return (json.dumps(document) + "\n").encode()
