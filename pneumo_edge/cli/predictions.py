"""Writes the results of ``predict``: text on standard output, or a file that is complete or absent.

The result for an image is plain data: what ``Prediction.to_dict`` gives, or ``source`` and ``error``. Its ``source`` is
text that strict parsers accept (:func:`pneumo_edge._util.records.encodable`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import typer

from pneumo_edge._util import extras, files
from pneumo_edge.errors import printable
from pneumo_edge.runtime.classifier import REMARKS as REMARKS
from pneumo_edge.runtime.identity import PredictorIdentity

ImageVerdict = Mapping[str, Any]

#: Rows that are collected in memory before they are written to Parquet.
_ROWS_AT_ONCE = 1000
#: How a remark is shown to a person; in files and in JSON it has its own name.
REMARKS_SHOWN = {name: "out-of-distribution" if name == "foreign" else name for name in REMARKS}
_REMARK_COLOURS = {REMARKS_SHOWN[name]: "red" if name == "foreign" else "yellow" for name in REMARKS}
_REMARK_WIDTH = max(map(len, REMARKS_SHOWN.values()))


def table(verdicts: Iterable[ImageVerdict], predictor: PredictorIdentity, colours: bool = False) -> Iterator[str]:
    """Yield the lines of a table, without the images that could not be classified.

    With colours, the positive class is bold, and remarks are yellow or, out-of-distribution, red.
    """
    width = max(len("label"), *(len(printable(name)) for name in predictor.class_names))
    positive = predictor.positive_class
    remarks = f"{'remark':<{_REMARK_WIDTH}}  " if predictor.remarks else ""
    title = f"p({'label' if positive is None else printable(positive)})"
    threshold = "" if positive is None else "  threshold"
    heading = f"{'label':<{width}}  {title}{threshold}  {'ms':>6}  {remarks}image\n"
    for verdict in verdicts:
        if "error" not in verdict:
            # Not before there is a row: of images that all fail, the errors are the whole output.
            if heading:
                yield heading
                heading = ""
            shown = verdict["label"] if positive is None else positive
            probability = f"{verdict['probabilities'][shown]:>{len(title)}.4f}"
            if positive is not None:
                probability += f"  {verdict['threshold']:>9.4f}"
            # The last is the most important: for an out-of-distribution image, the uncertainty means nothing.
            remark = ["-", *(REMARKS_SHOWN[name] for name in remarks_on(verdict))][-1]
            remarks = f"{remark:<{_REMARK_WIDTH}}  " if predictor.remarks else ""
            label = f"{printable(verdict['label']):<{width}}"
            if colours:
                label = typer.style(label, bold=True) if verdict["label"] == positive else label
                remarks = typer.style(remarks, fg=_REMARK_COLOURS[remark]) if remark != "-" else remarks
            yield (f"{label}  {probability}  {verdict['total_ms']:>6.1f}  {remarks}{printable(verdict['source'])}\n")


def remarks_on(verdict: ImageVerdict) -> list[str]:
    """Return the names of :data:`REMARKS` that apply: reasons not to rely on the label."""
    return [name for name in REMARKS if verdict.get(name)]


def as_csv(verdicts: Iterable[ImageVerdict], predictor: PredictorIdentity) -> Iterator[str]:
    """Yield CSV with a header. An image that could not be classified has its name and the reason.

    File names cannot become formulas: see :mod:`pneumo_edge._util.tabular`.
    """
    from pneumo_edge._util import tabular

    yield tabular.row(columns(predictor))
    for verdict in verdicts:
        yield tabular.row(map(_csv_cell, cells(verdict, predictor)))


def as_json(verdicts: Iterable[ImageVerdict], predictor: PredictorIdentity) -> Iterator[str]:
    """Yield one JSON document."""
    document = {"model": predictor.model, "engine": predictor.engine, "images": list(verdicts)}
    yield json.dumps(document, indent=2) + "\n"


def as_json_lines(verdicts: Iterable[ImageVerdict], predictor: PredictorIdentity) -> Iterator[str]:
    """Yield JSON Lines: one document for each image."""
    yield from map(_json_line, verdicts)


#: Endings of text files of results, and the functions that write them.
TEXTS: dict[str, Callable[[Iterable[ImageVerdict], PredictorIdentity], Iterator[str]]] = {
    ".csv": as_csv,
    ".json": as_json,
    ".jsonl": as_json_lines,
}
PARQUET = ".parquet"


def write(verdicts: Iterable[ImageVerdict], predictor: PredictorIdentity, path: Path) -> None:
    """Write a file in the format of its ending, :data:`PARQUET` or one of :data:`TEXTS`.

    Raises:
        MissingExtraError: The format is Parquet, and pyarrow is not installed.
        OSError: The file cannot be written. An existing file is not changed.
    """
    with files.atomic(path) as temporary:
        if path.suffix == PARQUET:
            _write_parquet(verdicts, predictor, temporary)
            return
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            stream.writelines(TEXTS[path.suffix](verdicts, predictor))


def columns(predictor: PredictorIdentity) -> list[str]:
    """Return the column names of CSV and Parquet."""
    fixed = ["image", "label", "threshold", "total_ms", "error", *REMARKS]
    # A class may be called as one of the other columns is.
    of_classes = [f"p({name})" if name in fixed else name for name in predictor.class_names]
    return [*fixed[:2], *of_classes, *fixed[2:]]


def cells(verdict: ImageVerdict, predictor: PredictorIdentity) -> list[Any]:
    """Return a row for :func:`columns`; None where there is no value."""
    shares = verdict.get("probabilities", {})
    label, *others = (verdict.get(name) for name in ("label", "threshold", "total_ms", "error", *REMARKS))
    return [verdict["source"], label, *map(shares.get, predictor.class_names), *others]


def _json_line(document: Mapping[str, Any]) -> str:
    return json.dumps(document) + "\n"


def _csv_cell(cell: Any) -> Any:
    return str(cell).lower() if isinstance(cell, bool) else cell


def _write_parquet(verdicts: Iterable[ImageVerdict], predictor: PredictorIdentity, path: Path) -> None:
    pyarrow = extras.need("pyarrow", "parquet")
    parquet = extras.need("pyarrow.parquet", "parquet")
    types = dict.fromkeys(("image", "label", "error"), pyarrow.string()) | dict.fromkeys(REMARKS, pyarrow.bool_())
    names = columns(predictor)
    schema = pyarrow.schema(
        [(name, types.get(name, pyarrow.float64())) for name in names],
        metadata={
            "model": predictor.model,
            "sha256": predictor.sha256,
            "engine": f"{predictor.engine} {predictor.version}",
        },
    )
    rows = (cells(verdict, predictor) for verdict in verdicts)
    # An open file, because Arrow takes only paths in UTF-8.
    with path.open("wb") as stream, parquet.ParquetWriter(stream, schema) as writer:
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            by_column = dict(zip(names, zip(*batch, strict=True), strict=True))
            writer.write_table(pyarrow.table(by_column, schema=schema))
