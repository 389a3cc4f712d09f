"""What becomes of verdicts: text on standard output, or a file that is whole or not there.

A verdict is plain data: what ``Prediction.to_dict`` gives, or ``source`` and ``error``.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pneumo_edge import extras, files
from pneumo_edge.errors import ResultsError, printable
from pneumo_edge.runtime.classifier import Classifier

Verdict = Mapping[str, Any]

#: Rows that a Parquet file holds in memory before it writes them.
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Judge:
    """What gave the verdicts: a model file, by its SHA-256, on an engine."""

    model: str
    sha256: str
    engine: str
    version: str
    class_names: tuple[str, ...]
    positive_class: str

    @classmethod
    def of(cls, classifier: Classifier) -> Judge:
        """The judge that a classifier is."""
        spec, engine = classifier.spec, classifier.engine
        sha256 = files.sha256(classifier.path)
        return cls(spec.name, sha256, engine.name, engine.version, spec.class_names, spec.decision.positive_class)


def table(verdicts: Iterable[Verdict], judge: Judge) -> Iterator[str]:
    """Lines for a person, without the images that could not be judged."""
    width, positive = max(map(len, judge.class_names)), judge.positive_class
    yield f"{'label':<{width}}  p({positive})  threshold  {'ms':>6}  image\n"
    for verdict in verdicts:
        if "error" not in verdict:
            probability = f"{verdict['probabilities'][positive]:>{len(positive) + 3}.4f}"
            yield (
                f"{verdict['label']:<{width}}  {probability}  {verdict['threshold']:>9.4f}  "
                f"{verdict['total_ms']:>6.1f}  {printable(verdict['source'])}\n"
            )


def as_csv(verdicts: Iterable[Verdict], judge: Judge) -> Iterator[str]:
    """CSV with a header; of an image that could not be judged, its name and the reason."""
    yield _csv_row(columns(judge))
    for verdict in verdicts:
        yield _csv_row("" if cell is None else cell for cell in cells(verdict, judge))


def as_json(verdicts: Iterable[Verdict], judge: Judge) -> Iterator[str]:
    """One JSON document, in one piece."""
    document = {"model": judge.model, "engine": judge.engine, "images": list(verdicts)}
    yield json.dumps(document, indent=2) + "\n"


def as_json_lines(verdicts: Iterable[Verdict], judge: Judge) -> Iterator[str]:
    """A JSON document on each line, one for each image."""
    yield from map(_json_line, verdicts)


#: Endings of a file of verdicts, and what writes its text.
TEXTS: dict[str, Callable[[Iterable[Verdict], Judge], Iterator[str]]] = {
    ".csv": as_csv,
    ".json": as_json,
    ".jsonl": as_json_lines,
}
PARQUET = ".parquet"


def write(verdicts: Iterable[Verdict], judge: Judge, path: Path) -> None:
    """Write a file in the format that its ending says, :data:`PARQUET` or one of :data:`TEXTS`.

    Raises:
        MissingExtraError: It is Parquet, and pyarrow is not installed.
        OSError: It cannot be written; what was there is then as it was.
    """
    with files.atomic(path) as temporary:
        if path.suffix == PARQUET:
            _write_parquet(verdicts, judge, temporary)
            return
        # A file name may hold bytes that are not UTF-8.
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            stream.writelines(TEXTS[path.suffix](verdicts, judge))


def columns(judge: Judge) -> list[str]:
    """Names of the columns of CSV and Parquet."""
    return ["image", "label", *judge.class_names, "threshold", "total_ms", "error"]


def cells(verdict: Verdict, judge: Judge) -> list[Any]:
    """A row under :func:`columns`; None where there is nothing to say."""
    shares = verdict.get("probabilities", {})
    names = ("label", "threshold", "total_ms", "error")
    label, threshold, total_ms, error = (verdict.get(name) for name in names)
    return [verdict["source"], label, *map(shares.get, judge.class_names), threshold, total_ms, error]


class Journal:
    """The verdicts so far, as JSON lines in ``FILE.partial``, for a file that is written when all are known.

    Each line is written at once and whole. So a process may be killed at any moment: what was judged is kept, and
    the next run goes on behind it.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f"{target.name}.partial")

    def begin(self, judge: Judge, sources: Sequence[str], resume: bool) -> int:
        """Start, or go on where an interrupted run left off.

        Args:
            judge: What gives the verdicts.
            sources: The images that are to be judged, in order.
            resume: Keep the verdicts of an interrupted run, as far as they are those of the first ``sources``; a
                line that was cut short goes.

        Returns:
            For how many of the sources there is a verdict.

        Raises:
            ResultsError: There are verdicts of an interrupted run, and ``resume`` is not given, or they are
                another judge's.
            OSError: The file cannot be written.
        """
        head = _json_line(asdict(judge)).encode()
        done = end = 0
        if self.path.exists():
            if not resume:
                raise ResultsError(
                    f"{self.path} holds the verdicts of an interrupted run",
                    "no such file, or --resume",
                    "Give --resume to go on behind them, or delete the file",
                )
            done, end = self._find_end(head, sources)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as stream:
            stream.truncate(end)
        if not end:
            self._append(head)
        return done

    def append(self, verdict: Verdict) -> None:
        """Keep a verdict.

        Raises:
            OSError: The disk is full; the line may be cut short.
        """
        self._append(_json_line(verdict).encode())

    def verdicts(self) -> Iterator[Verdict]:
        """All verdicts, read as they are needed."""
        with self.path.open("rb") as stream:
            yield from map(json.loads, islice(stream, 1, None))

    def remove(self) -> None:
        """Delete the file, when what it was for has been written."""
        self.path.unlink()

    def _find_end(self, head: bytes, sources: Iterable[str]) -> tuple[int, int]:
        with self.path.open("rb") as stream:
            first = stream.readline()
            if not first.endswith(b"\n"):
                return 0, 0
            if first != head:
                raise ResultsError(
                    f"{self.path} holds verdicts of another model or engine, or of another version of it",
                    "the model and engine that it was begun with",
                    "Name those, or delete the file",
                )
            done, end = 0, stream.tell()
            for source, line in zip(sources, stream, strict=False):
                if _source(line) != source:
                    break
                done, end = done + 1, end + len(line)
        return done, end

    def _append(self, line: bytes) -> None:
        try:
            with self.path.open("ab", buffering=0) as stream:
                while line:
                    line = line[stream.write(line) :]
        except OSError as error:
            error.filename = os.fspath(self.path)
            raise


def _source(line: bytes) -> str | None:
    """The image that a line of a journal is about, or None where the line was cut short."""
    try:
        return str(json.loads(line)["source"]) if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError):
        return None


def _json_line(document: Mapping[str, Any]) -> str:
    return json.dumps(document) + "\n"


def _csv_row(row: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(row)
    return line.getvalue()


def _write_parquet(verdicts: Iterable[Verdict], judge: Judge, path: Path) -> None:
    pyarrow = extras.need("pyarrow", "parquet")
    parquet = extras.need("pyarrow.parquet", "parquet")
    texts = ("image", "label", "error")
    names = columns(judge)
    schema = pyarrow.schema(
        [(name, pyarrow.string() if name in texts else pyarrow.float64()) for name in names],
        metadata={"model": judge.model, "sha256": judge.sha256, "engine": f"{judge.engine} {judge.version}"},
    )
    rows = ([_storable(cell) for cell in cells(verdict, judge)] for verdict in verdicts)
    with parquet.ParquetWriter(str(path), schema) as writer:
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            by_column = dict(zip(names, zip(*batch, strict=True), strict=True))
            writer.write_table(pyarrow.table(by_column, schema=schema))


def _storable(cell: Any) -> Any:
    # Arrow's strings are UTF-8, and a file name need not be.
    return cell.encode("utf-8", "backslashreplace").decode() if isinstance(cell, str) else cell
